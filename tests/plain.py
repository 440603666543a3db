"""A slow, independent NumPy version of the three networks, straight from their description: no folding, no tricks.

Grouped convolution tap by tap, attention head by head, everything in float64, channels first.
"""

import math

import numpy as np

erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def conv3x3(x, kernel):
    """x (C,H,W), kernel (3,3,C,D)."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((kernel.shape[3], h, w))
    for i in range(3):
        for j in range(3):
            out += np.einsum("chw,cd->dhw", padded[:, i : i + h, j : j + w], kernel[i, j])
    return out


def pointwise_depthwise(p, x):
    x = np.einsum("chw,cd->dhw", x, p["pointwise"])
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros_like(x)
    for c in range(len(x)):
        for i in range(3):
            for j in range(3):
                out[c] += p["depthwise"][i, j, 0, c] * padded[c, i : i + h, j : j + w]
    return out


def layer_norm(p, x):
    mean, var = x.mean(0), x.var(0)
    return (x - mean) / np.sqrt(var + 1e-5) * p["scale"][:, None, None] + p["bias"][:, None, None]


def attention(p, q, k, v):
    c, h, w = v.shape
    heads = len(p["temperature"])
    size = c // heads
    out = np.zeros((c, h * w))
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        qh, kh, vh = (t.reshape(c, -1)[rows] for t in (q, k, v))
        qh = qh / np.maximum(np.linalg.norm(qh, axis=1, keepdims=True), 1e-12)
        kh = kh / np.maximum(np.linalg.norm(kh, axis=1, keepdims=True), 1e-12)
        scores = qh @ kh.T * p["temperature"][head]
        scores = np.exp(scores - scores.max(1, keepdims=True))
        out[rows] = scores / scores.sum(1, keepdims=True) @ vh
    return np.einsum("cn,cd->dn", out, p["project_out"]).reshape(c, h, w)


def block(p, x):
    q, k, v = np.split(pointwise_depthwise(p["self_attention"]["qkv"], layer_norm(p["norm1"], x)), 3)
    x = x + attention(p["self_attention"]["attention"], q, k, v)
    gate, value = np.split(pointwise_depthwise(p["feed_forward"]["project_in"], layer_norm(p["norm2"], x)), 2)
    return x + np.einsum("chw,cd->dhw", gelu(gate) * value, p["feed_forward"]["project_out"]["kernel"])


def stage(p, x):
    for i in sorted(p):
        x = block(p[i], x)
    return x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def head(p, x, slope):
    x = conv3x3(x, p["project_out_0"]["kernel"])
    return conv3x3(np.where(x > 0, x, slope * x), p["project_out_1"]["kernel"])


def fuse(p, a, b):
    """a, b (H,W) -> (H,W)."""
    x1 = stage(p["encoder1"], conv3x3(a[None], p["project_in_1"]["kernel"]))
    x2 = stage(p["encoder2"], conv3x3(b[None], p["project_in_2"]["kernel"]))
    f = p["fusion"]
    q1, k1, v1 = np.split(pointwise_depthwise(f["qkv1"], x1), 3)
    q2, k2, v2 = np.split(pointwise_depthwise(f["qkv2"], x2), 3)
    x1 = x1 + attention(f["attention1"], q2, k1, v1)
    x2 = x2 + attention(f["attention2"], q1, k2, v2)
    both = np.concatenate([x1, x2])
    g1, g2 = np.split(pointwise_depthwise(f["gate"], both), 2)
    y1 = gelu(g1) * pointwise_depthwise(f["value1"], x1)
    y2 = gelu(g2) * pointwise_depthwise(f["value2"], x2)
    both = both + np.einsum("chw,cd->dhw", y1, f["project_out1"]["kernel"])
    both = both + np.einsum("chw,cd->dhw", y2, f["project_out2"]["kernel"])
    return sigmoid(head(p, stage(p["decoder"], both), 0.01))[0]


def reconstruct(p, fused):
    """(H,W) -> two (H,W)."""
    out = []
    for source in ("source_a", "source_b"):
        x = stage(p[source]["body"], conv3x3(fused[None], p[source]["project_in"]["kernel"]))
        out.append(sigmoid(head(p[source], x, 0.01))[0])
    return out


def propose(p, a, b, gradient_a, gradient_b):
    """Four (H,W) -> w, v (2,H,W)."""
    out = []
    for name, x, y in (("intensity", a, b), ("gradient", gradient_a, gradient_b)):
        q = p[name]
        xa = stage(q["encoder_a"], conv3x3(x[None], q["project_in_a"]["kernel"]))
        xb = stage(q["encoder_b"], conv3x3(y[None], q["project_in_b"]["kernel"]))
        z = head(q, stage(q["decoder"], np.concatenate([xa, xb])), q["prelu"]["negative_slope"])
        z = np.exp(z - z.max(0))
        out.append(z / z.sum(0))
    return out
