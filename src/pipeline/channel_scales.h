#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "pipeline/pass.h"

namespace calque::pipeline {

// The divisor of each row of a rounded linear; 1 for rows that make no channel of the fold.
std::vector<float> divisors_of_rows(const model::FoldSpec& fold, std::span<const float> scales_K,
                                    Index rows);

using HeldMatrices = std::map<std::string, quant::QuantizedMatrix>;

// A transform (AWQ, SmoothQuant) within a pass: chooses the scales of a site's input channels and
// tracks the changes elsewhere that they require. Calibration continues with unscaled activations:
// consumers are rounded as W s with the statistics of x / s, and the following layers see the
// rounded W s divided by s again, which is the same function.
class ChannelScales {
 public:
  explicit ChannelScales(const Pass& pass) : pass_(pass) {}

  // Scales for the inputs of `site`, one per channel; empty if nothing is scaled (no fold, nothing
  // to round, no statistics, or the identity was best). Chosen when the fold's first site is
  // reached; the experts' sites of a block follow its mlp_in. `held`: the rounded linears whose
  // rows the scales will divide, and whose own scales must be able to take it.
  std::span<const float> choose(const model::BlockSpec& block, const model::SiteSpec& site,
                                const quant::InputStats& stats, model::BlockWeights& weights,
                                const forward::HiddenStates* hidden, const HeldMatrices& held);

  // True if a later fold of the block may still divide the rows of this tensor.
  static bool is_absorber(const model::BlockSpec& block, const std::string& tensor);

 private:
  struct Search;

  std::vector<float> search(const Search& search);

  const Pass& pass_;
  const model::BlockSpec* block_ = nullptr;  // the block that the scales belong to
  std::map<const model::FoldSpec*, std::vector<float>> scales_;
};

}  // namespace calque::pipeline
