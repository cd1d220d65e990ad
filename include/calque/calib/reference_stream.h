#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "calque/core/cost.h"
#include "calque/formats/plan.h"
#include "calque/forward/block_runner.h"
#include "calque/io/scratch.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/products.h"
#include "calque/model/weight_source.h"
#include "calque/quant/upstream.h"
#include "calque/text/corpus.h"

namespace calque::calib {

// What comparing one site takes, of so many tokens: products of differences and inputs, and numbers
// that are widened and subtracted; and what it holds of either beside the sum: a block of rows.
constexpr Cost input_shift_cost(Index channels, double tokens) {
  const auto K = static_cast<double>(channels);
  return {.flops = product_cost(K, tokens, K).flops, .elements = 2 * K * tokens};
}
constexpr std::uint64_t comparison_bytes(Index channels) {
  return 2 * sizeof(float) * static_cast<std::uint64_t>(kGramRows * channels);
}

// The calibration text going through the original model beside the one that is being quantized, so
// that each site can be told what its inputs would have been (quant/upstream.h). The inputs of one
// block's sites are held for all tokens, in the precision of the forward pass and in scratch space.
// Sites of single experts are left out: the two models send them different tokens.
class ReferenceStream {
 public:
  // What it works with, and for; all must outlive it.
  struct Inputs {
    forward::BlockRunner& runner;
    const model::ModelSource& weights;
    const model::FamilySpec& family;
    const text::TokenBlocks& calibration;
    const formats::ExportPlan& plan;  // sites without a reader that it rounds are left out
    const Exec& statistics;           // where sums are made
    std::shared_ptr<io::ScratchSpace> scratch;  // null: inputs of sites are in memory
    double& forward_seconds;                    // grow
  };
  explicit ReferenceStream(const Inputs& inputs);
  // As it was between two blocks when it was saved.
  ReferenceStream(const Inputs& inputs, const io::ByteSource& source);
  void save(const io::ByteSink& sink) const;

  // With the original weights; afterwards the block's sites can be compared.
  void run_block(const model::BlockSpec& block, model::BlockWeights& weights);

  // The site's next rows behind the quantized layers, in order.
  void compare(const model::SiteSpec& site, const forward::ActivationView& inputs_TK);
  // Of all rows that were compared; nullopt for a site that is left out. Frees the site's inputs.
  std::optional<quant::InputShift> take(const model::SiteSpec& site);

 private:
  class Recorder;
  class Comparison;
  bool is_compared(const model::SiteSpec& site) const;  // not without a reader that is rounded
  Comparison* find(const model::SiteSpec& site);

  Inputs inputs_;
  std::unique_ptr<forward::HiddenStates> hidden_;
  std::map<std::string, std::shared_ptr<Comparison>> sites_;
};

}  // namespace calque::calib
