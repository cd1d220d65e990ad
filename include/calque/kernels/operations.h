#pragma once

#include <span>
#include <string_view>

#include "calque/core/exec.h"

// The one list of operations: enumerator, function, what it returns and its arguments before the
// device. The kernel tables, the declarations of both backends, the names and what a device
// provides are made of it. CPU(...): operations that no GPU implements.
#define CALQUE_OPERATIONS(ALL, CPU)                                                             \
  ALL(kGram, gram, std::unique_ptr<GramSum::Sums>, Index)                                       \
  ALL(kGramEnergy, gram_energy, double, MatrixView<const float>, MatrixView<const float>)       \
  ALL(kInverseCholesky, inverse_cholesky, bool, MatrixView<float>)                              \
  ALL(kRoundToGrid, round_to_grid, void, MatrixView<const float>, const GridView&,              \
      MatrixView<std::uint8_t>)                                                                 \
  ALL(kGptqSweep, gptq_sweep, double, const GptqSweep&)                                         \
  ALL(kScaleSearch, scale_search, void, const ScaleSearch&, std::span<const float>)             \
  CPU(kBlockScaleSearch, block_scale_search, void, const ScaleSearch&, MatrixView<const float>) \
  CPU(kFloatScaleSearch, float_scale_search, void, const FloatScaleSearch&,                     \
      std::span<const float>)                                                                   \
  ALL(kRefineGrid, refine_grid, double, const RefineGrid&)                                      \
  CPU(kRefineBlocks, refine_blocks, void, const RefineBlocks&)                                  \
  CPU(kRoundVectors, round_vectors, void, const RoundVectors&)                                  \
  ALL(kPackBits, pack_bits, void, const PackBits&)

namespace calque {

// A device may or may not implement each of these: lets a plan refuse a stage before anything runs.
enum class Operation {
#define CALQUE_ENUMERATOR(enumerator, ...) enumerator,
  CALQUE_OPERATIONS(CALQUE_ENUMERATOR, CALQUE_ENUMERATOR)
#undef CALQUE_ENUMERATOR
};

// "gram", "gptq_sweep", ...: the name of its header.
std::string_view name_of(Operation operation);

// Every operation, in the order of the enumerators.
std::span<const Operation> all_operations();

bool provides(const Exec& exec, Operation operation);

}  // namespace calque
