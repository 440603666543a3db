"""Puts things on a scene's stage: what stands where, casts shadows, gives light, and when to paint it."""

from functools import partial

import numpy as np

from refusion_jax.scenes import buildings, fittings, plants, sprites, vehicles
from refusion_jax.scenes.render import Lamp
from refusion_jax.scenes.textures import wall_paint

MOST_LAMPS = 7  # street lamps that light the scene; those farther off only glow
HEADLIGHT = np.array([1.0, 0.95, 0.85])
STREET_LIGHTS = np.array([[1.0, 0.62, 0.25], [1.0, 0.85, 0.6], [0.85, 0.95, 1.0]])  # sodium, warm and cold white
ROOFS = np.array([[0.3, 0.12, 0.07], [0.12, 0.12, 0.13], [0.22, 0.17, 0.12]])


class Stage:
    """Items of a scene, (depth, draw) each, to be painted from far to near, and the plan of the ground.

    Positions are (x, z) on the ground in metres. Shadow casters and lamps are entered in the world at once,
    so that everything is lit alike whatever the order of painting.
    """

    def __init__(self, world, rng, plan):
        self.world, self.rng, self.plan, self.items = world, rng, plan, []

    def stream(self):
        """A generator of its own for one item: what it draws cannot depend on what else is in view."""
        return np.random.default_rng(self.rng.integers(1 << 62))

    def add(self, depth, draw, *arguments):
        """Have ``draw(world, *arguments)`` called when the scene is painted."""
        self.items.append((float(depth), partial(draw, self.world, *arguments)))

    def _cast(self, x, y, z, half):
        self.world.boxes.append((np.array([x, y, z], float), np.asarray(half, float)))

    def block(self, centre, half, height, look):
        """A flat-roofed building; ``half`` is (x, z)."""
        self._cast(centre[0], height / 2, centre[1], (half[0], height / 2, half[1]))
        self.add(centre[1] - half[1], buildings.block, centre, half, height, look)

    def house(self, centre, half, height):
        """A house with a gabled roof."""
        rng = self.rng
        look = buildings.style(rng, str(rng.choice(["brick", "plaster", "boards"])))._replace(shops=False)
        rise, tiles = rng.uniform(0.4, 0.8) * half[1], ROOFS[rng.integers(3)] * rng.uniform(0.7, 1.3)
        tall = height + 0.6 * rise
        self._cast(centre[0], tall / 2, centre[1], (half[0], tall / 2, half[1]))
        self.add(centre[1] - half[1], buildings.house, centre, half, height, look, rise, tiles)

    def tree(self, x, z, height, kind, colour=None):
        """A tree or bush."""
        base, own = np.array([x, 0.0, z]), self.stream()
        if kind != "bush":
            self.world.balls.extend(plants.casters(base, height, kind))
        self.plan["contacts"].append((x, z, 0.12 * height, 0.1 * height))
        self.add(z, plants.tree, base, own, height, kind, colour)

    def person(self, x, z):
        """Someone on foot."""
        self.plan["contacts"].append((x, z, 0.3, 0.3))
        self._cast(x, 0.85, z, (0.2, 0.85, 0.15))
        self.add(z, sprites.person, np.array([x, 0.0, z]), self.stream())

    def people(self, count, low, high, near=5.0, far=32.0):
        """``count`` people between x = ``low`` and ``high``, more of them near."""
        for _ in range(count):
            x = low + (high - low) * self.rng.random()
            self.person(x, near + (far - near) * self.rng.random() ** 1.6)

    def vehicle(self, x, z, facing, running=True):
        """A car; at night its lights shine on the road."""
        base, half = np.array([x, 0.0, z]), (2.2, 0.7, 0.9) if facing == "side" else (0.9, 0.7, 2.0)
        self._cast(x, 0.7, z + half[2], half)
        self.plan["contacts"].append((x, z + half[2], 1.2 * half[0], 1.2 * half[2]))
        if self.world.night > 0.5 and running and facing != "side":
            ahead, start = (-1.0, -0.5) if facing == "front" else (1.0, 4.2)
            aim = np.array([0.0, -0.09, ahead])
            self.world.lamps.append(Lamp(base + np.array([0.0, 0.7, start]), HEADLIGHT * 8.0, aim, 6.0))
        self.add(z, vehicles.vehicle, base, self.stream(), facing, running)

    def own_headlights(self):
        """The camera's own car may light the road ahead."""
        if self.world.night > 0.5 and self.rng.random() < 0.6:
            position, aim = self.world.view.position + np.array([0.0, -0.5, 0.5]), np.array([0.0, -0.06, 1.0])
            self.world.lamps.append(Lamp(position, HEADLIGHT * self.rng.uniform(8, 20), aim, 5.0))

    def lamp(self, x, z, height, arm):
        """A street lamp, lit after dark."""
        base, own = np.array([x, 0.0, z]), self.stream()
        lit = 1.0 if self.world.night > 0.5 else 0.0
        if lit and len(self.world.lamps) < MOST_LAMPS:
            colour = STREET_LIGHTS[self.rng.integers(3)] * self.rng.uniform(3.0, 7.0)
            head = base + np.array([arm, height - 0.2, 0.0])
            self.world.lamps.append(Lamp(head, colour, np.array([0.0, -1.0, 0.0]), 0.7))
        self.add(z, fittings.lamp_post, base, own, height, arm, lit)

    def beside(self, draw, offset, near, far):
        """A sign or light ``offset`` metres to the left or right of the road's middle."""
        x, z = self.rng.choice([-1, 1]) * offset, self.rng.uniform(near, far)
        self.add(z, draw, np.array([x, 0.0, z]), self.stream())

    def clutter(self, sides, count):
        """Benches, bins, fences and wires along the lines x = ``sides``."""
        rng = self.rng
        for _ in range(count):
            x, z = sides[rng.integers(len(sides))] + rng.normal(0, 0.3), rng.uniform(5, 28)
            self.plan["contacts"].append((x, z, 0.5, 0.4))
            draw = fittings.bench if rng.random() < 0.3 else fittings.litter_bin
            self.add(z, draw, np.array([x, 0.0, z]), self.stream())
        for x in sides:
            if rng.random() < 0.35:
                self._fence(x + np.sign(x) * rng.uniform(0.2, 0.8))
            if rng.random() < 0.3:
                y, lines = rng.uniform(5.5, 8.0), int(rng.integers(1, 4))
                for z in np.arange(rng.uniform(2, 12), 45, 22.0):
                    self.add(z + 11.0, fittings.wires, (x, y, z), (x, y, z + 22.0), lines, 0.5)

    def _fence(self, x):
        rng = self.rng
        kind, height = str(rng.choice(["palings", "rails", "mesh", "wall"])), rng.uniform(0.6, 1.5)
        painted = kind in ("palings", "wall")
        colour = wall_paint(rng) if painted else np.full(3, rng.uniform(0.03, 0.3))
        start, stop = rng.uniform(1.0, 10.0), rng.uniform(18, 50)
        for z in np.arange(start, stop, 6.0):  # in pieces, so that what stands before one can cover it
            self.add(z + 6.0, fittings.fence, (x, z), (x, min(z + 6.0, stop)), height, colour, kind)
