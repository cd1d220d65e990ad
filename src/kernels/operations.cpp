#include "calque/kernels/operations.h"

#include <array>

#include "kernels/exec_backend.h"

namespace calque {
namespace {

constexpr std::array kOperations = {Operation::kGram,
                                    Operation::kGramEnergy,
                                    Operation::kInverseCholesky,
                                    Operation::kRoundToGrid,
                                    Operation::kGptqSweep,
                                    Operation::kScaleSearch,
                                    Operation::kBlockScaleSearch,
                                    Operation::kRefineGrid,
                                    Operation::kRefineBlocks,
                                    Operation::kPackBits};

}  // namespace

std::string_view name_of(Operation operation) {
  switch (operation) {
    case Operation::kGram:
      return "gram";
    case Operation::kGramEnergy:
      return "gram_energy";
    case Operation::kInverseCholesky:
      return "inverse_cholesky";
    case Operation::kRoundToGrid:
      return "round_to_grid";
    case Operation::kGptqSweep:
      return "gptq_sweep";
    case Operation::kScaleSearch:
      return "scale_search";
    case Operation::kBlockScaleSearch:
      return "block_scale_search";
    case Operation::kRefineGrid:
      return "refine_grid";
    case Operation::kRefineBlocks:
      return "refine_blocks";
    case Operation::kPackBits:
      return "pack_bits";
  }
  return "unknown";
}

std::span<const Operation> all_operations() { return kOperations; }

bool provides(const Exec& exec, Operation operation) {
  const KernelTable& kernels = exec.backend().kernels;
  // The CPU packs bits without an entry of its own: pack_bits.cpp is that code.
  const bool on_host = exec.backend().device == nullptr;
  switch (operation) {
    case Operation::kGram:
      return kernels.accumulate_gram_f32 != nullptr && kernels.accumulate_gram_bf16 != nullptr;
    case Operation::kGramEnergy:
      return kernels.gram_energy != nullptr;
    case Operation::kInverseCholesky:
      return kernels.inverse_cholesky != nullptr;
    case Operation::kRoundToGrid:
      return kernels.round_to_grid != nullptr;
    case Operation::kGptqSweep:
      return kernels.gptq_sweep != nullptr;
    case Operation::kScaleSearch:
      return kernels.scale_search != nullptr;
    case Operation::kBlockScaleSearch:
      return kernels.block_scale_search != nullptr;
    case Operation::kRefineGrid:
      return kernels.refine_grid != nullptr;
    case Operation::kRefineBlocks:
      return kernels.refine_blocks != nullptr;
    case Operation::kPackBits:
      return on_host || (kernels.pack_columns != nullptr && kernels.pack_rows != nullptr);
  }
  return false;
}

}  // namespace calque
