#include "calque/model/family.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::model {

std::string_view name_of(SiteKind kind) {
  switch (kind) {
    case SiteKind::kAttnIn:
      return "attn_in";
    case SiteKind::kAttnOut:
      return "attn_out";
    case SiteKind::kMlpIn:
      return "mlp_in";
    case SiteKind::kMlpOut:
      return "mlp_out";
    case SiteKind::kExpertIn:
      return "expert_in";
    case SiteKind::kExpertOut:
      return "expert_out";
  }
  return "?";
}

const SiteSpec& BlockSpec::site(SiteKind kind, Index expert) const {
  for (const SiteSpec& candidate : sites)
    if (candidate.kind == kind && candidate.expert == expert) return candidate;
  throw Error(ErrorKind::kInternal, "", fmt::format("{} has no site {}", name, name_of(kind)));
}

bool BlockSpec::has_site(SiteKind kind) const {
  for (const SiteSpec& candidate : sites)
    if (candidate.kind == kind) return true;
  return false;
}

const FoldSpec* BlockSpec::fold_of(const SiteSpec& site) const {
  const bool routed = site.kind == SiteKind::kExpertIn;
  const SiteKind kind = routed ? SiteKind::kMlpIn : site.kind;
  const Index expert = routed ? -1 : site.expert;
  for (const FoldSpec& fold : folds)
    if (fold.site == kind && fold.expert == expert) return &fold;
  return nullptr;
}

std::vector<TensorSpec> BlockSpec::tensors() const {
  std::vector<TensorSpec> result{attn_norm, mlp_norm};
  for (const std::vector<TensorSpec>* norm : {&attn_post_norm, &mlp_post_norm, &q_norm, &k_norm})
    result.insert(result.end(), norm->begin(), norm->end());
  for (const ExpertsSpec& spec : experts) {
    result.push_back(spec.router);
    result.insert(result.end(), spec.shared_gate.begin(), spec.shared_gate.end());
  }
  for (const SiteSpec& candidate : sites)
    for (const LinearSpec& linear : candidate.readers) {
      result.push_back(linear.weight);
      result.insert(result.end(), linear.bias.begin(), linear.bias.end());
    }
  return result;
}

std::vector<TensorSpec> FamilySpec::tensors() const {
  std::vector<TensorSpec> result{embedding};
  for (const BlockSpec& block : blocks) {
    const std::vector<TensorSpec> inner = block.tensors();
    result.insert(result.end(), inner.begin(), inner.end());
  }
  result.push_back(final_norm);
  result.insert(result.end(), lm_head.begin(), lm_head.end());
  return result;
}

std::vector<LinearSpec> FamilySpec::linears() const {
  std::vector<LinearSpec> result;
  for (const BlockSpec& block : blocks)
    for (const SiteSpec& site : block.sites)
      result.insert(result.end(), site.readers.begin(), site.readers.end());
  return result;
}

bool FamilySpec::ignores(std::string_view tensor_name) const {
  if (tensor_name.ends_with("rotary_emb.inv_freq")) return true;
  return lm_head.empty() && tensor_name == "lm_head.weight";
}

}  // namespace calque::model
