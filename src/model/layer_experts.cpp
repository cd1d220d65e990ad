#include <fmt/format.h>

#include "model/layer_builder.h"

namespace calque::model {

void LayerBuilder::add_experts(BlockSpec& block) const {
  const ExpertNames& names = layout_.experts;
  const Index hidden = config_.hidden_size;
  ExpertsSpec experts;
  experts.count = config_.num_experts;
  experts.used = config_.experts_per_token;
  experts.normalize = config_.normalize_experts;
  experts.router = linear(names.folder + ".gate", "ffn_gate_inp", {experts.count, hidden}).weight;

  // Every expert reads the norm's output, and so do the router and the shared expert's gate.
  SiteSpec in{SiteKind::kMlpIn, -1, hidden, {}};
  const Index shared = config_.shared_intermediate_size;
  if (shared > 0) {
    in.readers = mlp_site(SiteKind::kMlpIn, names.folder + ".shared_expert", shared).readers;
    experts.shared_gate = {
        linear(names.folder + ".shared_expert_gate", "ffn_gate_inp_shexp", {1, hidden}).weight};
  }
  FoldSpec norm = norm_fold(in, block.mlp_norm);
  norm.consumers.push_back(experts.router);
  for (const TensorSpec& gate : experts.shared_gate) norm.consumers.push_back(gate);

  std::vector<SiteSpec> ins, outs;
  for (Index e = 0; e < experts.count; ++e) {
    const std::string folder = fmt::format("{}.experts.{}", names.folder, e);
    ins.push_back(mlp_site(SiteKind::kExpertIn, folder, config_.expert_intermediate_size, e));
    outs.push_back(mlp_site(SiteKind::kExpertOut, folder, config_.expert_intermediate_size, e));
    for (const LinearSpec& reader : ins.back().readers) norm.consumers.push_back(reader.weight);
  }
  block.folds.push_back(norm);
  for (std::size_t e = 0; e < ins.size(); ++e)
    block.folds.push_back(rows_fold(outs[e], ins[e].readers.back(), 0));
  block.sites.push_back(in);
  block.sites.insert(block.sites.end(), ins.begin(), ins.end());
  block.sites.insert(block.sites.end(), outs.begin(), outs.end());
  if (shared > 0) {
    block.sites.push_back(mlp_site(SiteKind::kMlpOut, names.folder + ".shared_expert", shared));
    block.folds.push_back(rows_fold(block.sites.back(), in.readers.back(), 0));
  }
  block.experts = {experts};
}

// The inputs of an expert's gate and up, or of its down. GGUF stacks the matrices of all routed
// experts.
SiteSpec LayerBuilder::mlp_site(SiteKind kind, const std::string& folder, Index width,
                                Index expert) const {
  const ExpertNames& names = layout_.experts;
  const Index hidden = config_.hidden_size;
  const std::string suffix = expert < 0 ? "_shexp" : "_exps";
  const Shape in{width, hidden, false, 0, expert};
  const Shape out{hidden, width, false, 0, expert};
  if (kind == SiteKind::kMlpOut || kind == SiteKind::kExpertOut)
    return {kind, expert, width, {linear(folder + "." + names.down, "ffn_down" + suffix, out)}};
  return {kind,
          expert,
          hidden,
          {linear(folder + "." + names.gate, "ffn_gate" + suffix, in),
           linear(folder + "." + names.up, "ffn_up" + suffix, in)}};
}

}  // namespace calque::model
