#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "mixers/attention/spec.h"
#include "mixers/delta_net/spec.h"
#include "mixers/experts/spec.h"
#include "mixers/layer_embedding/spec.h"
#include "support/model_fixture.h"

namespace calque::model {

// Values that transformers keeps in buffers, not weights.
struct Buffers {
  std::vector<double> inverse_frequencies;
  std::vector<double> local_frequencies;  // for layers with ModelConfig::local_rope
  double embedding_scale = 1;
};
Buffers exact_buffers(const ModelConfig& config);
Buffers rounded_buffers(const ModelConfig& config);  // to bf16

// The experts that answer a token, best first, and the weights of their answers. `bias` may be
// empty.
std::vector<std::pair<Index, double>> naive_routing(const Routing& routing,
                                                    const std::vector<double>& scores,
                                                    const std::vector<double>& bias);

// A transformer block written down from its definition, one number at a time in double: what the
// runner is tested against.
struct NaiveBlock {
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;

  const ModelConfig& config;
  const BlockSpec& block;
  const BlockWeights& weights;
  const Buffers& buffers;

  std::map<std::pair<std::string, Index>, Rows> inputs;  // inputs of the sites, by name and expert
  Rows hidden;                                           // output of the block
  Rows attended{};                                       // after its attention half
  std::vector<Rows> added{};                             // by each half
  // Rows that later blocks use, by name: taken from the block before and given to the next.
  std::map<std::string, Rows> kept{};

  // One sequence.
  void run(const Rows& before);

 private:
  Rows linear(const TensorSpec& weight, const std::vector<TensorSpec>& bias,
              const Rows& inputs_TK) const;
  Rows linear(const LinearSpec& spec, const Rows& inputs_TK) const {
    return linear(spec.weight, spec.bias, inputs_TK);
  }
  Row norm(const Row& x, const NormSpec& spec) const;
  Rows normed(const Rows& rows, const NormSpec& spec) const;
  Rows output(const HalfSpec& half, const Rows& before);
  Row head(const Row& row, Index index, const std::optional<NormSpec>& norm_spec,
           std::size_t position) const;
  Rows attention(const Rows& q_TN, const Rows& k_TN, const Rows& v_TN) const;
  Rows projected_attention(const Rows& normed_TH);
  Rows queries(const Rows& q_TN) const;
  Rows delta_net(const DeltaNet& spec, const Rows& normed_TH) const;
  Rows convolved(const DeltaNet& spec, const Rows& mixed_TN) const;
  Rows gated(const SiteSpec& site, const Rows& inputs_TK) const;
  Rows experts(const Experts& spec, const Rows& hidden_TH, const Rows& normed_TH);
};

// A whole model, one sequence: logits of every position.
NaiveBlock::Rows naive_logits(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                              const Buffers& buffers);

// Rows that the first block finds kept: embeddings that layers have of the tokens.
std::map<std::string, NaiveBlock::Rows> naive_kept(const ModelFolder& model,
                                                   const std::vector<std::int32_t>& ids);

// Embeddings as the first block gets them.
NaiveBlock::Rows naive_embedding(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                                 const Buffers& buffers);

}  // namespace calque::model
