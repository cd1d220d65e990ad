#include <array>

#include "calque/core/error.h"
#include "calque/kernels/operations.h"
#include "calque/kernels/pack_bits.h"

namespace calque {
namespace {

struct Named {
  Operation operation;
  std::string_view name;
};
constexpr std::array kNamed{Named{Operation::kGram, "gram"},
                            Named{Operation::kGramEnergy, "gram_energy"},
                            Named{Operation::kInverseCholesky, "inverse_cholesky"},
                            Named{Operation::kRoundToGrid, "round_to_grid"},
                            Named{Operation::kGptqSweep, "gptq_sweep"},
                            Named{Operation::kScaleSearch, "scale_search"},
                            Named{Operation::kBlockScaleSearch, "block_scale_search"},
                            Named{Operation::kRefineGrid, "refine_grid"},
                            Named{Operation::kRefineBlocks, "refine_blocks"},
                            Named{Operation::kPackBits, "pack_bits"}};
constexpr std::array kAll{Operation::kGram,
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
  for (const Named& named : kNamed)
    if (named.operation == operation) return named.name;
  return "";
}

std::span<const Operation> all_operations() { return kAll; }

bool provides(const Exec& exec, Operation) { return exec.name() == "cpu"; }

std::vector<DeviceFacts> accelerators() { return {}; }
std::string why_no_accelerator() { return "this build of calque has no CUDA support"; }

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec&) {
  pack_columns(codes_KN, bits, words_PN);
}
void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec&) {
  pack_rows(codes_RC, bits, words_RP);
}

}  // namespace calque
