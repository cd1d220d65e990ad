#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

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

// Cost of comparing one site over `tokens` tokens: products of differences with inputs, and numbers
// that are widened and subtracted.
constexpr Cost input_shift_cost(Index channels, double tokens) {
  const auto K = static_cast<double>(channels);
  return {.flops = product_cost(K, tokens, K).flops, .elements = 2 * K * tokens};
}
constexpr std::uint64_t comparison_bytes(Index channels) {
  return 2 * sizeof(float) * static_cast<std::uint64_t>(kGramRows * channels);
}

// Sends the calibration text through the original model alongside the one that is being quantized,
// so that each site's inputs can be compared with the inputs it would have had (quant/upstream.h).
// Holds the inputs of one block's sites for all tokens, in the precision of the forward pass, in
// scratch space. The two models may route other tokens to an expert: src/quant/README.md, "Upstream
// correction".
class ReferenceStream {
 public:
  // Everything the stream works with; all of it must outlive the stream.
  struct Inputs {
    forward::BlockRunner& runner;
    const model::ModelSource& weights;
    const model::FamilySpec& family;
    const text::TokenBlocks& calibration;
    const formats::ExportPlan& plan;  // a site is left out if none of its readers is rounded
    const Exec& statistics;           // device of the sums
    std::shared_ptr<io::ScratchSpace> scratch;  // null: the sites' inputs stay in memory
    double& forward_seconds;                    // increased by the time spent
  };
  explicit ReferenceStream(const Inputs& inputs);
  // Continues from a state written by save().
  ReferenceStream(const Inputs& inputs, const io::ByteSource& source);
  ~ReferenceStream();
  void save(const io::ByteSink& sink) const;

  // Runs the block with its original weights. Afterwards the block's sites can be compared.
  void run_block(const model::BlockSpec& block, model::BlockWeights& weights);

  // The same for the head (FamilySpec::head_block), after the last block.
  void run_head(const model::BlockSpec& head, MatrixView<const float> final_norm_1H);

  // Compares the next rows of the site's input in the quantized model with those of the original.
  void compare(const model::SiteSpec& site, const forward::ActivationView& inputs_TK);
  // The shift over all compared rows; nullopt if none was. Sites are compared and taken one after
  // another, in the order of the block.
  std::optional<quant::InputShift> take(const model::SiteSpec& site);

 private:
  class Recorder;
  class Recording;
  class Comparison;
  using Site = std::pair<std::string, Index>;           // name and expert
  bool is_compared(const model::SiteSpec& site) const;  // false if no reader is rounded
  // True if its rows arrive at other sites that are compared.
  bool has_followers(const model::BlockSpec& block, const model::SiteSpec& site) const;
  const Recording* original_of(const model::SiteSpec& site) const;  // null: nothing to compare with

  Inputs inputs_;
  std::unique_ptr<forward::HiddenStates> hidden_;
  std::map<Site, std::unique_ptr<Recording>> recordings_;
  std::unique_ptr<Comparison> comparison_;  // the site whose turn it is
};

}  // namespace calque::calib
