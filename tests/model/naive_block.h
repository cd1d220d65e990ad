#pragma once

#include <string>
#include <vector>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "model/model_fixture.h"

namespace calque::model {

// A transformer block written down from its definition, one number at a time in double: what the
// runner is tested against.
struct NaiveBlock {
  using Rows = std::vector<std::vector<double>>;

  const ModelConfig& config;
  const BlockSpec& block;
  const BlockWeights& weights;
  std::vector<double> inverse_frequencies;

  Rows inputs[4];  // of the sites, in SiteKind's order
  Rows hidden;     // after the block

  // One sequence.
  void run(const Rows& before);

 private:
  Rows linear(const LinearSpec& spec, const Rows& inputs_TK) const;
  std::vector<double> head(const std::vector<double>& row, Index index,
                           const std::vector<TensorSpec>& norm_spec, std::size_t position) const;
  Rows attention(const Rows& q_TN, const Rows& k_TN, const Rows& v_TN) const;
};

// A whole model, one sequence: logits of every position. `inverse_frequencies` as in NaiveBlock.
NaiveBlock::Rows naive_logits(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                              const std::vector<double>& inverse_frequencies);

}  // namespace calque::model
