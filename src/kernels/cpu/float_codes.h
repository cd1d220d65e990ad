#pragma once

#include <cmath>

#include "calque/core/small_float.h"
#include "kernels/cpu/lanes.h"

namespace calque::cpu {

// The nearest number of a small floating-point type, sixteen at a time, as rounded_to and code_of
// of calque/core/small_float.h find one.
class FloatCodes {
 public:
  explicit FloatCodes(SmallFloat type)
      : shift_(23 - info_of(type).mantissa_bits),
        // The exponent field of floats that stands for the field 0 here.
        bias_((126 + info_of(type).lowest_exponent) << info_of(type).mantissa_bits),
        sign_code_(info_of(type).sign_code()),
        largest_(info_of(type).largest),
        smallest_(std::ldexp(1.0f, info_of(type).lowest_exponent)),
        to_step_(std::ldexp(1.0f, -info_of(type).mantissa_bits)),
        subnormals_(std::ldexp(1.0f, info_of(type).mantissa_bits)) {}

  // `code` holds integers.
  struct Rounded {
    Floats code, level;
  };
  Rounded nearest(Floats position) const {
    const Ints sign = bits(position) & kSign;
    const Floats magnitude = at_most(floats(bits(position) & ~kSign), broadcast(largest_));
    const Floats power = at_least(floats(bits(magnitude) & kExponent), broadcast(smallest_));
    const Floats ones = power * (to_step_ * 0x1.8p23f);  // a float's last bit is one step there
    const Floats level = (magnitude + ones) - ones;
    // A subnormal number's code counts steps. A normal one's is at least `subnormals_` and comes
    // from the float's bits, which for a subnormal number give less than its count.
    const Floats counted = at_most(level * (subnormals_ / smallest_), broadcast(subnormals_));
    const Floats normal = __builtin_convertvector((bits(level) >> shift_) - bias_, Floats);
    const Floats signs = __builtin_convertvector((sign >> 31) & sign_code_, Floats);
    return {at_least(normal, counted) + signs, floats(bits(level) | sign)};
  }
  Floats rounded(Floats position) const { return nearest(position).level; }

 private:
  using Ints = simd::IntsOf<Floats>;
  static constexpr std::int32_t kSign = static_cast<std::int32_t>(0x80000000u);
  static constexpr std::int32_t kExponent = 0x7f800000;
  static Ints bits(Floats v) { return reinterpret_cast<Ints>(v); }
  static Floats floats(Ints v) { return reinterpret_cast<Floats>(v); }

  int shift_, bias_, sign_code_;
  float largest_, smallest_, to_step_, subnormals_;
};

}  // namespace calque::cpu
