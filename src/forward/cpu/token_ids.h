#pragma once

#include <cstdint>
#include <span>

#include "calque/core/matrix.h"

namespace calque::forward {

// BlockRunner::embed's conditions. Error(kInput, "E167") for an id that is no row of the embedding.
void check_ids(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
               Index vocabulary);

}  // namespace calque::forward
