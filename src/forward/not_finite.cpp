#include "calque/forward/not_finite.h"

#include <fmt/format.h>

#include <optional>

#include "calque/core/error.h"
#include "calque/core/finite.h"

namespace calque::forward {
namespace {

struct Place {
  Index row = 0;
  float value = 0;
};

template <typename T>
std::optional<Place> first_bad_row(MatrixView<const T> rows_TK) {
  for (Index t = 0; t < rows_TK.rows(); ++t)
    if (const auto k = first_nonfinite<T>(rows_TK.row_span(t)))
      return Place{t, widened(rows_TK.row(t)[*k])};
  return std::nullopt;
}

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

void require_finite_inputs(const model::BlockSpec& block, const model::SiteSpec& site,
                           const ActivationView& inputs_TK, Index rows_before,
                           std::span<const Index> lengths_B) {
  if (inputs_TK.on_device()) return;
  const std::optional<Place> bad =
      inputs_TK.is_bf16() ? first_bad_row(inputs_TK.bf16_TK) : first_bad_row(inputs_TK.f32_TK);
  if (!bad) return;
  throw_not_finite(
      fmt::format("{} of block {}, for {}, holds {}", site.name, block.name,
                  token_text(site, rows_before + bad->row, lengths_B), unsigned_nan(bad->value)),
      inputs_TK.is_bf16() ? ComputeDType::kBFloat16 : ComputeDType::kFloat32);
}

}  // namespace calque::forward
