#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::formats {

// Error(kNumerical, "E402") if a finite value has become infinite in `stored`, the values as
// numbers of `dtype`: names tensor, row, column, the value and the type's limit, and ends with
// `remedy`, a sentence without its period.
void require_stored(std::string_view tensor_name, MatrixView<const float> values, DType dtype,
                    std::span<const std::byte> stored, std::string_view remedy);

}  // namespace calque::formats
