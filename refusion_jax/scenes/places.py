"""Whole open-air scenes: street, suburb, park, waterfront, country, square."""

import numpy as np

from refusion_jax.scenes import buildings, fittings, plants
from refusion_jax.scenes.outdoors import ground, light_up, paint_sky, reflect, ridge
from refusion_jax.scenes.render import World, camera
from refusion_jax.scenes.staging import Stage

PLACES_BY_NAME = ("street", "suburb", "park", "waterfront", "country", "plaza")
MOST_CASTERS = 7  # boxes and balls each: what throws shadows, nearest first


def outdoors(shape, rng, time, place, thermal=False, ahead=False, eye=None, traffic=1.0):
    """Paint one scene; its World (canvas: radiance, and apparent temperature when ``thermal``).

    ``time`` is from outdoors.TIMES, ``place`` from PLACES_BY_NAME; ``ahead`` puts the sun into the picture;
    ``eye`` is the height of the camera in metres; ``traffic`` scales how many people and vehicles there
    are.
    """
    eye = eye or (rng.uniform(1.3, 1.9) if rng.random() < 0.75 else rng.uniform(3.0, 14.0))
    pitch = rng.normal(0.02, 0.05) - 0.06 * np.log2(eye / 1.6)
    view = camera(
        shape, (rng.normal(0, 0.8), eye, 0.0), rng.normal(0, 0.16), pitch, rng.normal(0, 0.008), rng.uniform(38, 62)
    )
    world = World(view, rng, thermal)
    light_up(world, rng, time, ahead)
    paint_sky(world, rng, time)
    stage = _PLACES[place](world, rng, traffic)
    items, plan = stage.items, stage.plan
    if thermal or rng.random() < 0.7:
        tall = rng.uniform(4, 14)
        ridge(world, rng, rng.uniform(120, 260), tall, 0.3, plants.leaf_colour(rng) * 0.8, 1.1)
    items.sort(key=lambda item: -item[0])
    far = np.array([view.position[0], 0.0, view.position[2]])
    world.boxes = sorted(world.boxes, key=lambda box: np.hypot(*(box[0] - far)[[0, 2]]) - max(box[1]))[:MOST_CASTERS]
    world.balls = sorted(world.balls, key=lambda ball: np.hypot(*(ball[0] - far)[[0, 2]]))[:MOST_CASTERS]
    ground(world, rng, plan)
    if plan.get("shore"):
        beyond = [item for item in items if item[0] > plan["shore"]]
        for _, draw in beyond:
            draw()
        reflect(world, rng, plan["shore"], plan["water"], plan["ripple"])
        items = [item for item in items if item[0] <= plan["shore"]]
    for _, draw in items:
        draw()
    return world


def _road(rng, lanes=True):
    tone = rng.uniform(0.06, 0.16)
    return {
        "half": rng.uniform(3.2, 6.5),
        "walk": rng.uniform(1.8, 4.5),
        "colour": np.array([1.0, 0.99, 0.97]) * tone,
        "marks": str(rng.choice(["dash", "dash", "double", ""])) if lanes else "",
        "zebra": rng.uniform(7, 16) if rng.random() < 0.3 else None,
    }


def _street(world, rng, traffic):
    road = _road(rng)
    plan = {"field": "paving", "stone": np.full(3, rng.uniform(0.15, 0.32)), "road": road, "contacts": []}
    stage, edge = Stage(world, rng, plan), road["half"] + road["walk"]
    for side in (-1, 1):
        z, solid, green = rng.uniform(-8.0, 6.0), rng.random() < 0.85, rng.random() < 0.65
        tall, spread = rng.uniform(6, 22), rng.uniform(0.1, 0.6)
        setback = rng.uniform(0.0, 3.0)
        while z < 90.0 and solid:
            width, deep = rng.uniform(7, 20), rng.uniform(5, 9)
            if rng.random() > 0.12:
                height = max(4.0, tall * (1.0 + spread * rng.normal()))
                centre = (side * (edge + setback + deep), z + width / 2)
                stage.block(centre, (deep, width / 2), height, buildings.style(rng))
            z += width + (rng.uniform(2, 6) if rng.random() < 0.25 else 0.0)
        kind = plants.KINDS[rng.integers(len(plants.KINDS))]
        if green or not solid:
            spacing, height, colour = rng.uniform(7, 14), rng.uniform(4.5, 10), plants.leaf_colour(rng)
            for z in np.arange(rng.uniform(6, 14), 60, spacing):
                x = side * (road["half"] + min(0.8, road["walk"] * 0.4) + (0 if solid else rng.uniform(0, 5)))
                stage.tree(x, z + rng.normal(0, 0.6), height * rng.uniform(0.8, 1.2), kind, colour)
        if rng.random() < 0.75:
            height, arm = rng.uniform(4.5, 7.5), -side * rng.uniform(0.6, 1.8)
            for z in np.arange(rng.uniform(5, 18), 80, rng.uniform(16, 26)):
                stage.lamp(side * (road["half"] + 0.6), z, height, arm)
        for _ in range(rng.poisson(1.0 * traffic)):
            stage.vehicle(
                side * (road["half"] - 1.1),
                rng.uniform(7, 45),
                "rear" if side > 0 else "front",
                running=rng.random() < 0.3,
            )
        stage.people(rng.poisson(1.3 * traffic), side * (road["half"] + 0.3), side * edge)
    for _ in range(rng.poisson(1.3 * traffic)):
        side = rng.choice([-1, 1])
        stage.vehicle(
            side * rng.uniform(0.3, 0.55) * road["half"], 6 + 34 * rng.random() ** 1.5, "rear" if side > 0 else "front"
        )
    if rng.random() < 0.2 * traffic:
        stage.vehicle(rng.uniform(-3, 3), rng.uniform(14, 28), "side")
    if rng.random() < 0.35 * traffic:
        stage.people(int(rng.integers(1, 4)), -road["half"], road["half"], 5.0, 16.0)
    if rng.random() < 0.5:
        stage.beside(fittings.traffic_light, road["half"] + 0.5, 9, 28)
    if rng.random() < 0.5:
        stage.beside(fittings.sign, road["half"] + 0.7, 6, 20)
    if rng.random() < 0.4:  # something closes the street
        stage.block((rng.uniform(-8, 8), 115.0), (rng.uniform(12, 30), 8.0), rng.uniform(10, 40), buildings.style(rng))
    stage.clutter((-road["half"] - 0.6, road["half"] + 0.6, -edge + 0.3, edge - 0.3), int(rng.integers(0, 5)))
    stage.own_headlights()
    return stage


def _suburb(world, rng, traffic):
    road = _road(rng)
    road["walk"] = float(rng.choice([0.0, 1.6]))
    plan = {"field": "grass", "road": road, "contacts": [], "green": plants.leaf_colour(rng)}
    stage = Stage(world, rng, plan)
    for side in (-1, 1):
        z = rng.uniform(2.0, 14.0)
        while z < 75.0:
            half, deep = rng.uniform(4, 6.5), rng.uniform(3.5, 5.5)
            if rng.random() < 0.85:
                x = side * (road["half"] + rng.uniform(6, 9) + half)
                stage.house((x, z + deep), (half, deep), rng.uniform(2.8, 6.0))
            z += 2 * deep + rng.uniform(4, 12)
        for _ in range(rng.integers(2, 6)):
            kind = plants.KINDS[rng.integers(len(plants.KINDS))]
            x = side * (road["half"] + rng.uniform(1.8, 9))
            stage.tree(x, rng.uniform(5, 60), rng.uniform(3.5, 10), kind)
        for z in rng.uniform(5, 40, rng.integers(0, 4)):
            stage.tree(side * (road["half"] + rng.uniform(2, 4)), z, rng.uniform(0.8, 1.8), "bush")
        stage.people(rng.poisson(0.7 * traffic), side * road["half"] * 0.8, side * (road["half"] + 2))
        if rng.random() < 0.6 * traffic:
            stage.vehicle(
                side * (road["half"] - 1.0),
                rng.uniform(7, 30),
                "rear" if side > 0 else "front",
                running=rng.random() < 0.5,
            )
    for z in np.arange(rng.uniform(6, 20), 80, 24):
        stage.lamp(-(road["half"] + 0.6), z, 6.0, 1.4)
    if rng.random() < 0.35:
        stage.beside(fittings.sign, road["half"] + 0.7, 6, 14)
    stage.clutter((-road["half"] - 2.0, road["half"] + 2.0), int(rng.integers(0, 3)))
    stage.own_headlights()
    return stage


def _park(world, rng, traffic):
    road = {
        "half": rng.uniform(0.8, 2.0),
        "walk": 0.0,
        "marks": "",
        "x": rng.uniform(-3, 3),
        "bend": rng.uniform(-4, 4),
        "colour": np.array([0.3, 0.26, 0.2]) * rng.uniform(0.5, 1.2),
    }
    plan = {
        "field": "grass",
        "road": road if rng.random() < 0.75 else None,
        "contacts": [],
        "green": plants.leaf_colour(rng),
    }
    if rng.random() < 0.3:
        plan["rows"] = (rng.uniform(1.5, 4.0), rng.uniform(0, 3.1))
    stage = Stage(world, rng, plan)
    kind, colour = plants.KINDS[rng.integers(len(plants.KINDS))], plants.leaf_colour(rng)
    for _ in range(rng.integers(4, 12)):
        z = 6 + 55 * rng.random() ** 1.3
        x = rng.choice([-1, 1]) * rng.uniform(2.0, 4.0 + 0.55 * z)
        which = kind if rng.random() < 0.7 else plants.KINDS[rng.integers(len(plants.KINDS))]
        stage.tree(x, z, rng.uniform(5, 13), which, colour if which == kind else None)
    for _ in range(rng.integers(0, 5)):
        stage.tree(rng.uniform(-14, 14), rng.uniform(6, 30), rng.uniform(0.6, 1.7), "bush")
    if rng.random() < 0.5:
        stage.house(
            (rng.uniform(-16, 16), rng.uniform(24, 55)), (rng.uniform(4, 8), rng.uniform(3, 5)), rng.uniform(2.8, 6)
        )
    stage.people(rng.poisson(2.0 * traffic), -6, 6, 5.0, 30.0)
    for z in np.arange(rng.uniform(5, 14), 50, 18):
        stage.lamp(road["x"] - road["half"] - 0.8, z, 3.8, 0.4)
    stage.clutter((road["x"] - road["half"] - 1.2, road["x"] + road["half"] + 1.0), int(rng.integers(0, 4)))
    return stage


def _waterfront(world, rng, traffic):
    shore = rng.uniform(18, 70)
    plan = {
        "field": "grass",
        "contacts": [],
        "shore": shore,
        "water": np.array([0.06, 0.1, 0.1]) * rng.uniform(0.5, 1.6),
        "ripple": rng.uniform(0.15, 0.9),
    }
    stage, x = Stage(world, rng, plan), -shore
    urban = rng.random() < 0.55
    while x < shore:
        width = rng.uniform(5, 16)
        z = shore + rng.uniform(3, 25)
        if urban and rng.random() < 0.85:
            half = (width / 2, rng.uniform(4, 7))
            if rng.random() < 0.4:
                stage.house((x + width / 2, z + half[1]), half, rng.uniform(3, 7))
            else:
                stage.block((x + width / 2, z + half[1]), half, rng.uniform(6, 26), buildings.style(rng))
        if rng.random() < (0.4 if urban else 0.95):
            kind = plants.KINDS[rng.integers(len(plants.KINDS))]
            stage.tree(x + rng.uniform(0, width), shore + rng.uniform(0.5, 3.5), rng.uniform(4, 11), kind)
        if urban and world.night > 0.5 and rng.random() < 0.6:
            stage.lamp(x, shore + 0.5, 5.0, 0.5)
        x += width + rng.uniform(0, 3)
    if rng.random() < 0.6:  # a near tree at the edge of the picture frames it
        side, z = rng.choice([-1, 1]), rng.uniform(6, 11)
        stage.tree(
            side * z * rng.uniform(0.3, 0.5), z, rng.uniform(5, 9), plants.KINDS[rng.integers(len(plants.KINDS))]
        )
    return stage


def _country(world, rng, traffic):
    plan = {
        "field": str(rng.choice(["grass", "grass", "earth"])),
        "contacts": [],
        "green": plants.leaf_colour(rng),
        "stone": np.array([0.3, 0.22, 0.14]) * rng.uniform(0.6, 1.3),
    }
    if rng.random() < 0.6:
        plan["rows"] = (rng.uniform(0.7, 2.5), rng.uniform(0, 3.1))
    if rng.random() < 0.7:
        plan["road"] = {
            "half": rng.uniform(1.3, 3.5),
            "walk": 0.0,
            "marks": str(rng.choice(["", "dash"])),
            "x": rng.uniform(-2, 2),
            "bend": rng.uniform(-5, 5),
            "colour": np.array([0.25, 0.21, 0.16]) * rng.uniform(0.4, 1.3),
        }
    for distance, tall in ((900, rng.uniform(40, 170)), (450, rng.uniform(12, 50))):
        ridge(world, rng, distance, tall, rng.uniform(0.3, 0.6), plants.leaf_colour(rng), 1.9)
    stage = Stage(world, rng, plan)
    for _ in range(rng.integers(4, 13)):
        z = 7 + 60 * rng.random()
        kind = plants.KINDS[rng.integers(len(plants.KINDS))]
        stage.tree(rng.choice([-1, 1]) * rng.uniform(3, 5 + 0.7 * z), z, rng.uniform(5, 14), kind)
    for _ in range(rng.integers(0, 4)):
        stage.house(
            (rng.uniform(-25, 25), rng.uniform(18, 60)), (rng.uniform(4, 9), rng.uniform(3.5, 5)), rng.uniform(2.8, 6)
        )
    if rng.random() < 0.5 * traffic:
        stage.vehicle(1.2, rng.uniform(8, 30), str(rng.choice(["rear", "front"])))
    stage.people(rng.poisson(0.8 * traffic), -4, 4, 5.0, 25.0)
    stage.clutter((rng.uniform(-6, -2), rng.uniform(2, 6)), 0)
    for _ in range(rng.integers(0, 6)):
        z = rng.uniform(5, 25)
        stage.tree(rng.uniform(-0.6, 0.6) * z, z, rng.uniform(0.5, 1.6), "bush")
    stage.own_headlights()
    return stage


def _plaza(world, rng, traffic):
    plan = {
        "field": "paving",
        "slab": rng.uniform(0.4, 1.4),
        "contacts": [],
        "stone": np.array([1.0, rng.uniform(0.85, 0.97), rng.uniform(0.7, 0.92)]) * rng.uniform(0.18, 0.42),
    }
    stage, far = Stage(world, rng, plan), rng.uniform(22, 50)
    x = -far
    while x < far:
        width = rng.uniform(8, 20)
        stage.block((x + width / 2, far + 8), (width / 2, 8.0), rng.uniform(7, 30), buildings.style(rng))
        x += width + (rng.uniform(2, 5) if rng.random() < 0.25 else 0)
    side = rng.choice([-1, 1])
    if rng.random() < 0.7:
        stage.block(
            (side * rng.uniform(13, 18), rng.uniform(8, 16)),
            (6.0, rng.uniform(7, 10)),
            rng.uniform(6, 16),
            buildings.style(rng),
        )
    for _ in range(rng.integers(0, 6)):
        kind = plants.KINDS[rng.integers(len(plants.KINDS))]
        z = rng.uniform(8, far - 3)
        stage.tree(rng.choice([-1, 1]) * rng.uniform(2.5, 3 + 0.4 * z), z, rng.uniform(3.5, 8), kind)
    stage.people(1 + rng.poisson(3.5 * traffic), -7, 7, 4.5, 26.0)
    if rng.random() < 0.4 * traffic:
        stage.vehicle(rng.uniform(-6, 6), rng.uniform(10, 24), "side", running=rng.random() < 0.5)
    for z in np.arange(rng.uniform(6, 14), far, 13):
        for lamp_side in (-1, 1):
            stage.lamp(lamp_side * 6.5, z, 4.5, -lamp_side * 0.5)
    stage.clutter((-6.0, 6.0, 0.0), int(rng.integers(0, 6)))
    return stage


_PLACES = {
    "street": _street,
    "suburb": _suburb,
    "park": _park,
    "waterfront": _waterfront,
    "country": _country,
    "plaza": _plaza,
}
