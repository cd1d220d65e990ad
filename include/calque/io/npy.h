#pragma once

#include <filesystem>

#include "calque/core/matrix.h"

namespace calque::io {

// A NumPy .npy file (versions 1.0-3.0) of a little-endian integer dtype (int8 ... int64, uint8 ...
// uint32), C order, rank 1 or 2, as 32-bit integers; rank 1 gives one row. Error(kInput) for
// anything else, and for values that do not fit.
Matrix<std::int32_t> read_npy_integers(const std::filesystem::path& path);

}  // namespace calque::io
