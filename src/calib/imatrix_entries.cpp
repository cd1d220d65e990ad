#include "calib/imatrix_entries.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"

namespace calque::calib {
namespace {

io::ImatrixEntry empty_entry(Index matrices, Index columns) {
  io::ImatrixEntry entry;
  entry.matrices = matrices;
  entry.sums.assign(static_cast<std::size_t>(matrices * columns), 0.0);
  entry.counts.assign(static_cast<std::size_t>(matrices), 0.0);
  return entry;
}

}  // namespace

void check_has_gguf_names(const model::FamilySpec& family) {
  if (!family.gguf_architecture.empty()) return;
  throw Error(ErrorKind::kConfig, "E123",
              fmt::format("an importance matrix names tensors as GGUF does, which has no names for "
                          "models of the family '{}' here",
                          family.name));
}

Index matrices_of(const model::BlockSpec& block, const model::TensorSpec& weight) {
  return weight.gguf_expert < 0 || block.experts.empty() ? 1 : block.experts.front().count;
}

void add_to_imatrix(const model::BlockSpec& block, const model::SiteSpec& site,
                    std::span<const double> sums_K, Index tokens, io::Imatrix& imatrix) {
  for (const model::LinearSpec& linear : site.readers) {
    const model::TensorSpec& weight = linear.weight;
    const Index columns = linear.in_features();
    io::ImatrixEntry& entry =
        imatrix.entries
            .try_emplace(weight.gguf_name, empty_entry(matrices_of(block, weight), columns))
            .first->second;
    const Index slab = std::max<Index>(weight.gguf_expert, 0);
    std::copy(sums_K.begin(), sums_K.end(), entry.sums.begin() + slab * columns);
    entry.counts[static_cast<std::size_t>(slab)] = static_cast<double>(tokens);
  }
}

}  // namespace calque::calib
