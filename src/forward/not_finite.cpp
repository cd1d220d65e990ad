#include "calque/forward/not_finite.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/finite.h"

namespace calque::forward {
namespace {

std::string token_text(const model::SiteSpec& site, Index row, std::span<const Index> lengths_B) {
  if (site.expert >= 0)
    return fmt::format("token {} of those that reach expert {}", row, site.expert);
  Index sequence = 0;
  for (const Index length : lengths_B) {
    if (row < length) break;
    row -= length;
    ++sequence;
  }
  return fmt::format("token {} of sequence {}", row, sequence);
}

}  // namespace

void throw_not_finite(const std::string& what, ComputeDType dtype) {
  const std::string advice = dtype == ComputeDType::kBFloat16
                                 ? ", or the model overflows in bfloat16, in which it ran: try "
                                   "runtime.forward_dtype: float32"
                                 : "";
  throw Error(ErrorKind::kNumerical, "E403",
              fmt::format("{}. Weights are damaged or too large{}", what, advice));
}

void throw_output_not_finite(const model::BlockSpec& block, Index sequence, Index token,
                             float value, ComputeDType dtype) {
  throw_not_finite(fmt::format("the output of block {} for token {} of sequence {} holds {}",
                               block.name, token, sequence, unsigned_nan(value)),
                   dtype);
}

void throw_input_not_finite(const model::BlockSpec& block, const model::SiteSpec& site, Index row,
                            std::span<const Index> lengths_B, ComputeDType dtype) {
  const std::string place =
      row < 0 ? "" : fmt::format(", for {},", token_text(site, row, lengths_B));
  throw_not_finite(
      fmt::format("{} of block {}{} holds NaN or infinity", site.name, block.name, place), dtype);
}

}  // namespace calque::forward
