#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "support/model_fixture.h"

namespace calque::forward {

// Sequences of token ids, padded to one length.
struct Tokens {
  Matrix<std::int32_t> ids_BS;
  std::vector<Index> lengths_B;
};

// `reference.safetensors` of a model folder: inputs and what transformers made of them.
struct Reference {
  explicit Reference(const std::filesystem::path& folder);

  Tokens tokens;
  Matrix<float> logits_RV;  // all positions of all sequences
};

// Keeps what it is shown, widened to fp32, and may change weights.
class RecordingObserver : public BlockObserver {
 public:
  using Change = std::function<void(const model::SiteSpec&, model::BlockWeights&)>;
  explicit RecordingObserver(Change change = {}) : change_(std::move(change)) {}

  void site_input(const model::SiteSpec& site, const ActivationView& inputs_TK) override;
  void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override;

  // "attn_in 4096", "attn_in 224", "attn_in ready", ...
  const std::vector<std::string>& events() const { return events_; }
  const std::vector<std::vector<float>>& rows(const std::string& kind, Index expert = -1) {
    return rows_[{kind, expert}];
  }
  // Places of the tokens that were routed there.
  const std::vector<Index>& tokens(const std::string& kind, Index expert) {
    return tokens_[{kind, expert}];
  }

 private:
  Change change_;
  std::vector<std::string> events_;
  std::map<std::pair<std::string, Index>, std::vector<std::vector<float>>> rows_;
  std::map<std::pair<std::string, Index>, std::vector<Index>> tokens_;
};

// Changes the weights of block `layer` before it is run.
using WeightChange = std::function<void(Index layer, model::BlockWeights&)>;

std::unique_ptr<HiddenStates> embedded(BlockRunner& runner, const model::ModelFolder& model,
                                       const Tokens& tokens);

// Logits of all real positions, through all blocks; `observer` watches every block.
Matrix<float> logits_of(const model::ModelFolder& model, const Tokens& tokens,
                        const RunnerOptions& options, BlockObserver* observer = nullptr,
                        const WeightChange& change = {});

// Expects that head_input gives hidden / sqrt(mean square + eps) * (1 + weight) on Gemma 3.
void expect_final_norm(const std::string& device);

// The largest difference of logits in bf16 from those in fp32, as a share of their size (root mean
// squares), that a model of the fixtures may have.
double bf16_tolerance(const std::string& folder);

float largest_difference(MatrixView<const float> a, MatrixView<const float> b);
// The root mean square of a - b, of b's. With experts, the median over positions of that of a
// position: rounding sends some tokens to other experts, and their logits have nothing in common.
double relative_difference(const model::FamilySpec& family, MatrixView<const float> a,
                           MatrixView<const float> b);
bool same_bits(MatrixView<const float> a, MatrixView<const float> b);

}  // namespace calque::forward
