#include "calque/model/block.h"

#include <fmt/format.h>

#include <cassert>
#include <numeric>
#include <utility>

#include "calque/core/error.h"

namespace calque::model {
namespace {

void append(const std::vector<TensorSpec>& tensors, std::vector<TensorSpec>& all) {
  all.insert(all.end(), tensors.begin(), tensors.end());
}

void append(const std::optional<NormSpec>& norm, std::vector<TensorSpec>& all) {
  if (norm && norm->has_weight()) all.push_back(norm->weight);
}

}  // namespace

std::vector<Index> PartsOrder::order(Index count) const {
  if (groups < 2 || parts.size() < 2) return {};
  std::vector<Index> order(static_cast<std::size_t>(first));
  std::iota(order.begin(), order.end(), Index{0});
  const Index step = std::accumulate(parts.begin(), parts.end(), Index{0});
  assert(first + groups * step == count);
  order.reserve(static_cast<std::size_t>(count));
  Index before = first;
  for (const Index size : parts) {
    for (Index group = 0; group < groups; ++group)
      for (Index i = 0; i < size; ++i) order.push_back(before + group * step + i);
    before += size;
  }
  return order;
}

const SiteSpec& BlockSpec::site(std::string_view site_name, Index expert) const {
  for (const SiteSpec& candidate : sites)
    if (candidate.name == site_name && candidate.expert == expert) return candidate;
  throw Error(ErrorKind::kInternal, "", fmt::format("{} has no site {}", name, site_name));
}

bool BlockSpec::has_site(std::string_view site_name) const {
  for (const SiteSpec& candidate : sites)
    if (candidate.name == site_name) return true;
  return false;
}

std::size_t BlockSpec::end_of_group(std::size_t half) const {
  std::size_t end = half + 1;
  while (end < halves.size() && halves[end].beside) ++end;
  return end;
}

std::size_t BlockSpec::half_of(const FoldSpec& fold) const {
  const auto at = static_cast<std::size_t>(&site(fold.site, fold.expert) - sites.data());
  std::size_t half = 0;
  while (at >= halves[half].first_site + halves[half].site_count) ++half;
  return half;
}

// Files list tensors in this order, tensors read before linears first.
std::vector<TensorSpec> BlockSpec::tensors() const {
  std::vector<TensorSpec> result;
  for (const HalfSpec& half : halves) append(half.norm, result);
  for (const HalfSpec& half : halves) append(half.post_norm, result);
  for (const HalfSpec& half : halves) append(half.sum_norm, result);
  for (const HalfSpec& half : halves) append(half.mixer->tensors(), result);
  if (scalar) result.push_back(*scalar);
  for (const SiteSpec& candidate : sites)
    for (const LinearSpec& linear : candidate.readers) {
      result.push_back(linear.weight);
      append(linear.bias, result);
    }
  return result;
}

std::vector<TensorSpec> BlockSpec::unrounded() const {
  std::vector<TensorSpec> result;
  for (const HalfSpec& half : halves) append(half.mixer->unrounded(), result);
  return result;
}

void add_half(DetachedHalf half, BlockSpec& block) {
  half.half.first_site = block.sites.size();
  half.half.site_count = half.sites.size();
  for (SiteSpec& site : half.sites) {
    if (site.fold >= 0) site.fold += static_cast<Index>(block.folds.size());
    block.sites.push_back(std::move(site));
  }
  for (FoldSpec& fold : half.folds) block.folds.push_back(std::move(fold));
  block.halves.push_back(std::move(half.half));
}

}  // namespace calque::model
