"""A small painter's renderer: solids under a camera, lit by sun, sky and lamps, with temperatures.

World axes: x right, y up, z ahead, in metres. Things are painted from far to near.
"""

from dataclasses import dataclass, field

import numpy as np

from refusion_jax.scenes.surfaces import grain, mix

NEAR = 0.15  # metres: nothing nearer is seen


class Camera:
    """Pinhole camera of a picture ``shape`` (height, width); angles in radians, ``view`` in degrees, shorter side."""

    def __init__(self, shape, position, yaw=0.0, pitch=0.0, view=55.0):
        (cy, sy), (cp, sp) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch))
        self.shape, self.position = tuple(shape), np.asarray(position, float)
        self.focal = float(0.5 * min(shape) / np.tan(np.radians(view) / 2))  # pixels
        self.axes = np.array([[cy, 0.0, -sy], [sy * sp, -cp, cy * sp], [sy * cp, sp, cy * cp]])  # right, down, ahead

    def locate(self, point):
        """Column, row and depth (metres) of a point."""
        x, y, z = (self.axes @ (np.asarray(point, float) - self.position) + [0, 0, 1e-9]).tolist()
        return self.shape[1] / 2 + self.focal * x / z, self.shape[0] / 2 + self.focal * y / z, z


@dataclass
class Light:
    """What lights a scene and how warm it is; radiances (3,1,1) are those of a white matt surface."""

    towards: np.ndarray  # unit vector to the sun
    sun: np.ndarray
    sky: np.ndarray  # from above on a level surface
    bounce: np.ndarray  # from below
    night: float = 0.0  # 0 day .. 1 night: how much windows and lamps count
    air: float = 15.0  # degrees Celsius
    heating: float = 0.0  # degrees that full sun adds to black
    cold: float = -20.0  # the sky's temperature
    haze: float = 0.0  # share of radiance lost per metre
    lamps: list = field(default_factory=list)  # (position, radiance of white at one metre, shines downwards only)
    casters: list = field(default_factory=list)  # (centre, half sizes, whether an ellipsoid): they throw shadows

    def sunlit(self, point):
        """Share of the sun (0..1) at ``point`` (three arrays or numbers)."""
        lit, d = 1.0, [float(v) if abs(v) > 1e-4 else 1e-4 for v in self.towards]
        for centre, half, ball in self.casters if d[1] > 0.0 else ():
            o = [(float(centre[i]) - point[i]) / float(half[i]) for i in range(3)]
            e = [d[i] / float(half[i]) for i in range(3)]
            if ball:
                along = (o[0] * e[0] + o[1] * e[1] + o[2] * e[2]) / (e[0] ** 2 + e[1] ** 2 + e[2] ** 2)
                miss = sum((o[i] - along * e[i]) ** 2 for i in range(3))
                lit = lit * (1.0 - 0.85 * np.clip(2.0 * (1.0 - miss), 0.0, 1.0) * (along > 0.0))
            else:
                enter, leave = 0.02, 1e4
                for i in range(3):
                    turn = 1.0 if e[i] > 0 else -1.0
                    enter, leave = np.maximum(enter, (o[i] - turn) / e[i]), np.minimum(leave, (o[i] + turn) / e[i])
                lit = lit * (1.0 - np.clip(5.0 * (leave - enter), 0.0, 1.0))
        return lit


class World:
    """A camera, the light, and a canvas (5,H,W) to paint on: linear radiance (white in the midday sun has about 1) in
    three colours, apparent temperature in degrees Celsius, coverage."""

    def __init__(self, view, light, canvas=None, sunlit=None):
        self.view, self.light, self.sunlit = view, light, sunlit  # share of the sun; None: ask what throws shadows
        self.canvas = np.zeros((5, *view.shape), np.float32) if canvas is None else canvas

    def paint(self, rows, cols, alpha, material, normal, point, depth):
        """Lay a lit surface over a part of the canvas; ``material`` is what a surface gives."""
        (albedo, emission, warmth), light, level = material, self.light, normal[1]
        lit = light.sky * (0.5 + 0.5 * level) + light.bounce * (0.5 - 0.5 * level)
        for centre, half, _ in light.casters if np.ndim(level) == 0 and level > 0.9 else ():  # it hides part of the sky
            near = sum(((point[i] - float(centre[i])) / float(1.3 * half[i])) ** 2 for i in (0, 2))
            on = np.abs(point[1] - float(centre[1] - half[1])) < 0.05
            lit = lit * (1.0 - 0.6 * np.exp(-near) * on).astype(np.float32)
        facing = np.maximum(sum(n * float(d) for n, d in zip(normal, light.towards, strict=True)), 0.0)
        if light.sun.any() and np.any(facing):
            facing = np.float32(facing * (light.sunlit(point) if self.sunlit is None else self.sunlit))
            lit = lit + light.sun * facing
        for position, colour, downwards in light.lamps:
            away = [float(position[i]) - point[i] for i in range(3)]
            square = away[0] * away[0] + away[1] * away[1] + away[2] * away[2] + 0.1
            cosine = (away[0] * normal[0] + away[1] * level + away[2] * normal[2]) / np.sqrt(square)
            gain = np.maximum(0.15 + 0.85 * cosine, 0.0) / square
            gain = gain * np.clip(2.0 * away[1] / np.sqrt(square), 0.0, 1.0) if downwards else gain
            lit = lit + colour * np.float32(gain)
        out, heat = lit * albedo + emission, light.air + warmth + light.heating * facing * (1.0 - albedo[1])
        heat = 0.94 * heat + 0.06 * (light.air + (light.cold - light.air) * (0.5 + 0.5 * level))  # the rest is mirrored
        clear = np.exp(-np.float32(light.haze) * np.float32(depth))
        out, heat = mix(1.1 * light.sky + 0.12 * light.sun, out, clear), mix(light.air, heat, clear**0.3)
        for target, value in ((self.canvas[:3], out), (self.canvas[3], heat), (self.canvas[4], 1.0)):
            target[..., rows, cols] += alpha * (value - target[..., rows, cols])

    def part(self, left, right, top, bottom):
        """Rows, columns and pixel centres x (1,w) and y (h,1) of a part of the picture; None if it is outside."""
        height, width = self.view.shape
        left, right = int(max(0, np.floor(left))), int(min(width, np.ceil(right) + 1))
        top, bottom = int(max(0, np.floor(top))), int(min(height, np.ceil(bottom) + 1))
        if left >= right or top >= bottom:
            return None
        x, y = (np.arange(a, b, dtype=np.float32) + np.float32(0.5) for a, b in ((left, right), (top, bottom)))
        return slice(top, bottom), slice(left, right), x[None, :], y[:, None]

    def flat(self, origin, u, v, corners, surface):
        """A convex polygon; ``corners`` (N,2) in metres along the unit vectors u and v from ``origin``."""
        view, (height, width) = self.view, self.view.shape
        origin, u, v, corners = (np.asarray(a, float) for a in (origin, u, v, corners))
        matrix = view.axes @ np.stack([u, v, origin - view.position], axis=1)
        seen = np.c_[corners, np.ones(len(corners))] @ matrix.T
        if seen[:, 2].max() < NEAR or abs(np.linalg.det(matrix)) < 1e-9:
            return
        px, py = (n / 2 + view.focal * seen[:, i] / seen[:, 2] for i, n in enumerate((width, height)))
        box = px.min() - 1, px.max() + 1, py.min() - 1, py.max() + 1
        if (part := self.part(*(box if seen[:, 2].min() > NEAR else (0, width, 0, height)))) is None:
            return
        rx, ry = (part[2] - np.float32(width / 2)) / view.focal, (part[3] - np.float32(height / 2)) / view.focal
        (a, b, c), (d, e, f), (g, h, i) = np.linalg.inv(matrix).astype(np.float32)
        depth = 1.0 / np.maximum(g * rx + (h * ry + i), np.float32(0.5 / seen[:, 2].max()))
        s, t, scale = (a * rx + (b * ry + c)) * depth, (d * rx + (e * ry + f)) * depth, depth / np.float32(view.focal)
        ds, dt = (np.maximum(np.abs(p - w * g), np.abs(q - w * h)) * scale for p, q, w in ((a, b, s), (d, e, t)))
        alpha, following = np.float32((depth < 1.02 * seen[:, 2].max()) & (depth > NEAR)), np.roll(corners, -1, axis=0)
        turn = np.sign(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
        for (ps, pt), (qs, qt) in zip(corners.tolist(), following.tolist(), strict=True):
            ns, nt = float(turn) * (pt - qt), float(turn) * (qs - ps)
            away = (ns * (s - ps) + nt * (t - pt)) / (abs(ns) * ds + abs(nt) * dt + 1e-9)  # pixels from the edge
            alpha = np.clip(away + 1.0, 0.0, alpha)  # half a pixel larger, so that neighbours leave no seam
        normal = (n := np.array([g, h, i], float)) @ view.axes / -np.linalg.norm(n)  # n.p = 1 for points p of the plane
        point = [float(origin[k]) + s * float(u[k]) + t * float(v[k]) for k in range(3)]
        self.paint(*part[:2], alpha, surface(s, t, ds, dt), normal.tolist(), point, depth)

    def prism(self, base, profile, length, yaw, surfaces, lift=0.0):
        """A convex profile (N,2) of (forward, up) stretched sideways; one surface, or a list: ends, then sides."""
        ahead, across = np.array([np.sin(yaw), 0.0, np.cos(yaw)]), np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        base, up, half = np.array([base[0], lift, base[1]]), np.array([0.0, 1.0, 0.0]), 0.5 * length
        surfaces = surfaces if isinstance(surfaces, list) else [surfaces] * (len(profile) + 1)
        faces = [(base + side * half * across, ahead, up, profile, surfaces[0]) for side in (-1, 1)]
        for p, q, surface in zip(profile, [*profile[1:], profile[0]], surfaces[1:], strict=True):
            along, tall = (q[0] - p[0]) * ahead + (q[1] - p[1]) * up, np.hypot(q[0] - p[0], q[1] - p[1])
            corners = [(-half, 0), (half, 0), (half, tall), (-half, tall)]
            faces.append((base + p[0] * ahead + p[1] * up, across, along / tall, corners, surface))
        middle = base + np.mean(profile, axis=0) @ np.stack([ahead, up])
        for origin, u, v, corners, surface in faces:
            inner, outer = (np.linalg.det([u, v, away]) for away in (origin - middle, self.view.position - origin))
            if inner * outer > 0.0:  # it faces the camera
                self.flat(origin, u, v, corners, surface)

    def box(self, base, size, surface, yaw=0.0, lift=0.0):
        """A box of (width, height, depth) metres that stands about ``base`` (x, z)."""
        w, h, d = size
        self.prism(base, [(-d / 2, 0), (-d / 2, h), (d / 2, h), (d / 2, 0)], w, yaw, surface, lift)

    def rod(self, start, end, radius, surface, taper=1.0, blunt=False, leafy=0.0):
        """A rod between two points, its ends round or ``blunt``, or a ball; leaves of ``leafy`` metres fray its rim."""
        (x0, y0, z0), (x1, y1, z1) = (self.view.locate(p) for p in (start, end))
        if min(z0, z1) < 4 * NEAR or radius * self.view.focal < 0.15 * z0:
            return
        r0, r1 = radius * self.view.focal / z0, radius * taper * self.view.focal / z1
        reach = 1.5 * max(r0, r1, 0.5) + 1
        part = self.part(min(x0, x1) - reach, max(x0, x1) + reach, min(y0, y1) - reach, max(y0, y1) + reach)
        if part is None:
            return
        x, y, dx, dy = part[2] - np.float32(x0), part[3] - np.float32(y0), x1 - x0, y1 - y0
        square, step = dx * dx + dy * dy + 1e-9, np.float32(z0 / self.view.focal)
        along = np.clip(free := (x * dx + y * dy) / square, 0.0, 1.0)
        ex, ey = (x - free * dx, y - free * dy) if blunt else (x - along * dx, y - along * dy)
        wide, distance = np.maximum(r0 + (r1 - r0) * along, 0.5), np.hypot(ex, ey)
        s, t = ex * step, along * np.float32(np.linalg.norm(np.subtract(end, start))) + (0 if blunt else ey * step)
        albedo, emission, warmth = surface(s, t, step, step)
        if leafy:
            leaves = grain(s * (0.12 / leafy) + x0 % 7, (t + s) * (0.12 / leafy), step * (0.12 / leafy), 0.5)
            distance = wide + (distance - wide * (1.0 + 0.25 * leaves)) / (1.0 + 0.06 * wide)
            albedo = albedo * np.clip(0.85 + 0.35 * leaves, 0.1, 2.0)
        alpha = np.clip(wide + 0.5 - distance, 0.0, 1.0) * min(1.0, 2.0 * max(r0, r1))
        if blunt:
            alpha = alpha * np.clip((0.5 - np.abs(free - 0.5)) * square**0.5 + 0.5, 0.0, 1.0)
        across, down = np.clip(ex / wide, -0.7, 0.7), np.clip(ey / wide, -0.7, 0.7)
        front, middle = np.sqrt(1.0 - across * across - down * down), 0.5 * (np.asarray(start) + np.asarray(end))
        normal = [across * a + down * b - front * c for a, b, c in self.view.axes.T.astype(np.float32)]
        self.paint(*part[:2], alpha, (albedo, emission, warmth), normal, middle.tolist(), z0)
