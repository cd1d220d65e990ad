#pragma once

#include <cstdint>
#include <span>

#include "calque/core/matrix.h"
#include "calque/model/config.h"
#include "calque/model/weight_source.h"

namespace calque::verify {

// Logits [T, V] of one sequence in fp32, one block in memory at a time.
Matrix<float> prompt_logits(const model::WeightSource& weights, const model::ModelConfig& config,
                            std::span<const std::int32_t> ids, int threads);

}  // namespace calque::verify
