#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "calque/core/matrix.h"
#include "calque/core/small_float.h"

namespace calque {

// A server rounds the inputs of a linear to these numbers right before the product: scale times a
// floating-point number, or times an integer of -127 to 127.
struct InputGrid {
  enum class Scale : std::uint8_t {
    kToken,   // one a row, from its largest magnitude, while the server runs
    kGroup,   // likewise, one for every `group` channels of a row
    kTensor,  // `scale` for all, from calibration
    kPower,   // as kGroup with powers of two (MX formats)
    kCoded,   // as kGroup with FP8 numbers divided by `scale`, which is from calibration (NVFP4)
  };
  Scale scale_of = Scale::kToken;
  std::optional<SmallFloat> number = std::nullopt;  // nullopt: integers of 8 bits
  Index group = 0;
  float scale = 0;  // 0: not known before calibration
  bool operator==(const InputGrid&) const = default;

  bool is_calibrated() const { return scale_of == Scale::kTensor || scale_of == Scale::kCoded; }
  bool has_groups() const { return scale_of != Scale::kToken && scale_of != Scale::kTensor; }

  // The largest magnitude of the numbers.
  float largest() const { return number ? info_of(*number).largest : 127.0f; }
};

// By the name of the linear's weight; others keep their inputs.
using InputGrids = std::map<std::string, InputGrid, std::less<>>;

// Null if there are none, or none for this weight.
inline const InputGrid* find_inputs(const InputGrids* grids, std::string_view weight) {
  if (grids == nullptr) return nullptr;
  const auto found = grids->find(weight);
  return found == grids->end() ? nullptr : &found->second;
}

}  // namespace calque
