// The two functions of cpp_layers.py for XLA's CPU backend: what F's attention layers do with a part of an image, row
// by row, so that all between what is read and what is written stays in a core's own cache. float32, channels a
// multiple of LANES. On the thread that calls: several parts are under way at a time. runtime/native.py builds them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;

constexpr int64_t LANES = 16;  // channels worked on together
constexpr int64_t RUN = 8;     // pixels worked on together in a product: with two groups of LANES in 16 registers

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Half __attribute__((vector_size(2 * LANES), aligned(4), may_alias));
typedef float Quarter __attribute__((vector_size(LANES), aligned(4), may_alias));

static inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
static inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }

static inline float total(Lanes value) {
  const Half* halves = reinterpret_cast<const Half*>(&value);
  const Half half = halves[0] + halves[1];
  const Quarter* quarters = reinterpret_cast<const Quarter*>(&half);
  const Quarter sum = quarters[0] + quarters[1];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// erf to 4e-7: a quotient of polynomials in x^2 fitted to it up to 3.95; from 3.92 on it is 1 in float32.
static inline Lanes erf(Lanes x) {
  const Lanes most = Lanes{} + 3.92f;
  x = x > most ? most : x < -most ? -most : x;
  const Lanes z = x * x;
  Lanes above = Lanes{} + 2.01187309e-06f, below = Lanes{} + 3.78403435e-05f;
  for (float c : {2.87586568e-04f, 3.91664559e-03f, 5.32049822e-02f, 1.94019794e-01f, 1.12837901f})
    above = above * z + c;
  for (float c : {1.19804011e-03f, 1.52693530e-02f, 1.15584202e-01f, 5.05277058e-01f, 1.0f}) below = below * z + c;
  return x * above / below;
}

static inline Lanes gelu(Lanes x) { return 0.5f * x * (1.0f + erf(x * 0.70710678f)); }

// Zeros from a multiple of LANES floats on: a load that lies in two lines of the cache takes twice as long.
class Memory {
 public:
  explicit Memory(int64_t count) : first_(nullptr, &std::free) {
    first_.reset(static_cast<float*>(std::aligned_alloc(sizeof(Lanes), (count / LANES + 1) * sizeof(Lanes))));
    std::fill_n(data(), count, 0.0f);
  }
  float* data() { return first_.get(); }

 private:
  std::unique_ptr<float, decltype(&std::free)> first_;
};

// x (pixels,C) @ kernel (C,D), for RUN pixels and GROUPS groups of LANES at a time: put(pixel, group, sum). `pixels`
// are rounded up to whole runs.
template <int GROUPS, typename Put>
static inline void product_of(int64_t group, const float* x, int64_t channels, const float* kernel, int64_t features,
                              int64_t pixels, Put put) {
  for (int64_t p = 0; p < pixels; p += RUN) {
    Lanes sum[RUN][GROUPS] = {};
    for (int64_t c = 0; c < channels; ++c) {
      Lanes k[GROUPS];
      for (int g = 0; g < GROUPS; ++g) k[g] = load(kernel + c * features + (group + g) * LANES);
      for (int64_t i = 0; i < RUN; ++i)
        for (int g = 0; g < GROUPS; ++g) sum[i][g] += x[(p + i) * channels + c] * k[g];
    }
    for (int64_t i = 0; i < RUN; ++i)
      for (int g = 0; g < GROUPS; ++g) put(p + i, group + g, sum[i][g]);
  }
}

template <typename Put>
static void product(const float* x, int64_t channels, const float* kernel, int64_t features, int64_t pixels, Put put) {
  const int64_t groups = features / LANES;
  for (int64_t group = 0; group + 1 < groups; group += 2)
    product_of<2>(group, x, channels, kernel, features, pixels, put);
  if (groups % 2) product_of<1>(groups - 1, x, channels, kernel, features, pixels, put);
}

// The rows of a frame x (N,C), `pitch` pixels each and RUN more, or of its layer norm.
class Rows {
 public:
  // scale, bias (C) of the norm; scale null: x as it is. mask (N,1): where the norm is not zero.
  Rows(Floats x, int64_t pitch, const float* mask, const float* scale, const float* bias)
      : x_(x.typed_data()), mask_(mask), scale_(scale), bias_(bias), channels_(x.dimensions()[1]), pitch_(pitch),
        row_((pitch + RUN) * channels_) {}

  const float* at(int64_t row) {
    const float *from = x_ + row * pitch_ * channels_, *mask = mask_ + row * pitch_;
    float* to = row_.data();
    if (!scale_) {
      std::copy_n(from, pitch_ * channels_, to);
      return row_.data();
    }
    for (int64_t p = 0; p < pitch_; ++p, from += channels_, to += channels_) {
      Lanes sum{}, squares{};
      for (int64_t c = 0; c < channels_; c += LANES) sum += load(from + c);
      const float mean = total(sum) / channels_;
      for (int64_t c = 0; c < channels_; c += LANES) squares += (load(from + c) - mean) * (load(from + c) - mean);
      const float factor = mask[p] / std::sqrt(total(squares) / channels_ + 1e-5f);
      for (int64_t c = 0; c < channels_; c += LANES)
        store(to + c, (load(from + c) - mean) * factor * load(scale_ + c) + load(bias_ + c) * mask[p]);
    }
    return row_.data();
  }

 private:
  const float *x_, *mask_, *scale_, *bias_;
  int64_t channels_, pitch_;
  Memory row_;
};

// A 1x1 convolution, then a depthwise 3x3 one: the first of the three rows that the second needs.
class Projection {
 public:
  Projection(Floats kernel, Floats taps, int64_t pitch)
      : kernel_(kernel.typed_data()), taps_(taps.typed_data()), channels_(kernel.dimensions()[0]),
        features_(kernel.dimensions()[1]), pitch_(pitch), stride_((pitch + RUN + 2) * LANES),
        rows_(3 * features_ / LANES * stride_) {}

  int64_t features() const { return features_; }

  // The next row (pitch + RUN, C), number `row`.
  void add(int64_t row, const float* x) {
    product(x, channels_, kernel_, features_, pitch_,
            [&](int64_t p, int64_t group, Lanes sum) { store(pixels(row, group) + p * LANES, sum); });
  }

  // put(pixel, result) of a group of LANES of a row; the next one was the last that was added.
  template <typename Put>
  void convolve(int64_t row, int64_t group, Put put) {
    Lanes k[9];
    for (int t = 0; t < 9; ++t) k[t] = load(taps_ + t * features_ + group * LANES);
    const float *up = pixels(row - 1, group), *here = pixels(row, group), *down = pixels(row + 1, group);
    for (int64_t p = 0; p < pitch_; ++p, up += LANES, here += LANES, down += LANES) {
      Lanes sum = k[0] * load(up - LANES) + k[1] * load(up) + k[2] * load(up + LANES);
      sum += k[3] * load(here - LANES) + k[4] * load(here) + k[5] * load(here + LANES);
      sum += k[6] * load(down - LANES) + k[7] * load(down) + k[8] * load(down + LANES);
      put(p, sum);
    }
  }

 private:
  // Of a group of LANES; one pixel more on each side.
  float* pixels(int64_t row, int64_t group) {
    return rows_.data() + (row % 3 * (features_ / LANES) + group) * stride_ + LANES;
  }

  const float *kernel_, *taps_;
  int64_t channels_, features_, pitch_, stride_;
  Memory rows_;
};

// base (N,E) + (gelu(gate) * value) @ out (D,E), or + value @ out: gate and value (N,D) are projections, zero where
// mask is. The first and the last row, which lack neighbours, stay as they are.
static ffi::Error Merge(Floats base, Floats mask, Floats scale, Floats bias, Floats out, Floats value_x,
                        Floats value_kernel, Floats value_taps, Floats gate_x, Floats gate_kernel, Floats gate_taps,
                        ffi::Result<Floats> result, int64_t pitch, bool normed, bool gated) {
  const int64_t rows = mask.dimensions()[0] / pitch, width = base.dimensions()[1], length = pitch * width;
  const float *inside = mask.typed_data(), *norm = normed ? scale.typed_data() : nullptr;
  Rows value_rows(value_x, pitch, inside, norm, bias.typed_data());
  Rows gate_rows(gate_x, pitch, inside, norm, bias.typed_data());
  Projection value(value_kernel, value_taps, pitch), gate(gate_kernel, gate_taps, pitch);
  const int64_t features = value.features();
  Memory hidden((pitch + RUN) * features);
  const float* from = base.typed_data();
  float* to = result->typed_data();
  std::copy_n(from, length, to);
  std::copy_n(from + (rows - 1) * length, length, to + (rows - 1) * length);
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = value_rows.at(row);
    value.add(row, x);
    if (gated) gate.add(row, gate_x.typed_data() == value_x.typed_data() ? x : gate_rows.at(row));
    const int64_t middle = row - 1;
    if (middle < 1) continue;
    for (int64_t group = 0; group < features / LANES; ++group) {
      auto place = [&](int64_t p) { return hidden.data() + p * features + group * LANES; };
      value.convolve(middle, group, [&](int64_t p, Lanes sum) { store(place(p), sum * inside[middle * pitch + p]); });
      if (gated)
        gate.convolve(middle, group, [&](int64_t p, Lanes sum) { store(place(p), gelu(sum) * load(place(p))); });
    }
    product(hidden.data(), features, out.typed_data(), width, pitch, [&](int64_t p, int64_t group, Lanes sum) {
      const int64_t place = middle * length + p * width + group * LANES;
      if (p < pitch) store(to + place, load(from + place) + sum);
    });
  }
  return ffi::Error::Success();
}

// Of two projections q, k (N,C) where counted (N,1) is 1: q.k (C,C) within groups of LANES, |q|^2 and |k|^2 (C). A row
// is summed in float32, rows in float64.
static ffi::Error Sums(Floats mask, Floats counted, Floats scale, Floats bias, Floats query_x, Floats query_kernel,
                       Floats query_taps, Floats key_x, Floats key_kernel, Floats key_taps, ffi::Result<Floats> dots,
                       ffi::Result<Floats> query_squares, ffi::Result<Floats> key_squares, int64_t pitch, bool normed) {
  const int64_t rows = mask.dimensions()[0] / pitch, width = query_x.dimensions()[1];
  const float *inside = mask.typed_data(), *norm = normed ? scale.typed_data() : nullptr;
  Rows query_rows(query_x, pitch, inside, norm, bias.typed_data());
  Rows key_rows(key_x, pitch, inside, norm, bias.typed_data());
  Projection query(query_kernel, query_taps, pitch), key(key_kernel, key_taps, pitch);
  Memory queries(pitch * LANES), keys(pitch * LANES);
  constexpr int64_t KINDS = LANES + 2;  // sums of a channel: with those of its group, and both squares
  std::vector<double> sums(width * KINDS, 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = query_rows.at(row);
    query.add(row, x);
    key.add(row, key_x.typed_data() == query_x.typed_data() ? x : key_rows.at(row));
    const int64_t middle = row - 1;
    if (middle < 1) continue;
    const float* counts = counted.typed_data() + middle * pitch;
    for (int64_t group = 0; group < width / LANES; ++group) {
      query.convolve(middle, group, [&](int64_t p, Lanes q) { store(queries.data() + p * LANES, q * counts[p]); });
      key.convolve(middle, group, [&](int64_t p, Lanes k) { store(keys.data() + p * LANES, k * counts[p]); });
      Lanes sum[KINDS] = {};
      for (int64_t p = 0; p < pitch; ++p) {
        const float* entries = queries.data() + p * LANES;
        const Lanes q = load(entries), k = load(keys.data() + p * LANES);
        for (int64_t i = 0; i < LANES; ++i) sum[i] += entries[i] * k;
        sum[LANES] += q * q;
        sum[LANES + 1] += k * k;
      }
      for (int64_t i = 0; i < KINDS; ++i)
        for (int64_t j = 0; j < LANES; ++j) sums[(group * KINDS + i) * LANES + j] += sum[i][j];
    }
  }
  std::fill_n(dots->typed_data(), width * width, 0.0f);
  for (int64_t channel = 0; channel < width; ++channel) {
    const int64_t group = channel / LANES, i = channel % LANES;
    const double* found = sums.data() + group * KINDS * LANES;
    for (int64_t j = 0; j < LANES; ++j)
      dots->typed_data()[channel * width + group * LANES + j] = static_cast<float>(found[i * LANES + j]);
    query_squares->typed_data()[channel] = static_cast<float>(found[LANES * LANES + i]);
    key_squares->typed_data()[channel] = static_cast<float>(found[(LANES + 1) * LANES + i]);
  }
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(merge, Merge,
                              ffi::Ffi::Bind()
                                  .Arg<Floats>()  // base
                                  .Arg<Floats>()  // mask
                                  .Arg<Floats>()  // scale
                                  .Arg<Floats>()  // bias
                                  .Arg<Floats>()  // out
                                  .Arg<Floats>()  // value: x, kernel, taps
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()  // gate
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("pitch")
                                  .Attr<bool>("normed")
                                  .Attr<bool>("gated"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(sums, Sums,
                              ffi::Ffi::Bind()
                                  .Arg<Floats>()  // mask
                                  .Arg<Floats>()  // counted
                                  .Arg<Floats>()  // scale
                                  .Arg<Floats>()  // bias
                                  .Arg<Floats>()  // query: x, kernel, taps
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()  // key
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()  // dots
                                  .Ret<Floats>()  // squares of query and key
                                  .Ret<Floats>()
                                  .Attr<int64_t>("pitch")
                                  .Attr<bool>("normed"));
