#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "calque/job/job.h"
#include "calque/model/config.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

namespace calque::job {

// Returns tokens shared with other jobs: the result of `make`, called now or earlier under the same
// key. Empty: nothing is shared.
using TokenSharing = std::function<text::PackedTokens(
    const std::string& key, const std::function<text::PackedTokens()>& make)>;

// Token ids of a job's texts. The tokenizer is opened once, when it is first needed.
class Tokens {
 public:
  // `model` is the folder or GGUF file that holds the tokenizer.
  explicit Tokens(std::filesystem::path model, TokenSharing sharing = {})
      : model_(std::move(model)), sharing_(std::move(sharing)) {}

  // Error(kInput) if calque cannot read it (text/tokenizer.h).
  const text::Tokenizer& tokenizer();
  // Frees the tokenizer's memory; it is opened again when needed.
  void close() { tokenizer_.reset(); }

  text::PackedTokens calibration(const CalibrationSettings& settings, Index vocab_size);
  // Throws what calibration() and evaluation() would throw for token ids that are given in a file.
  // Reads no text.
  void check_given(const Job& job, const model::ModelConfig& config);
  // The number of windows in `text` must be set. `config` belongs to the model of the tokenizer.
  text::PackedTokens evaluation(const EvaluationText& text, Index seqlen,
                                std::optional<bool> add_bos, const model::ModelConfig& config);
  // Does the work of the next call of `evaluation` with the same arguments.
  void prepare_evaluation(const EvaluationText& text, Index seqlen, std::optional<bool> add_bos,
                          const model::ModelConfig& config);
  // The tokens that windows of `text` begin with: those that the tokenizer puts first, or the BOS
  // of `config` where there are none or the text is token ids. Error(kConfig, "E246") where a BOS
  // is asked for and the model names none.
  text::TokenIds prefix(const EvaluationText& text, std::optional<bool> add_bos,
                        const model::ModelConfig& config);
  // The same for a text that is tokenized.
  text::TokenIds text_prefix(std::optional<bool> add_bos, const model::ModelConfig& config);

  const std::filesystem::path& model() const { return model_; }

 private:
  text::PackedTokens made_or_shared(const std::string& key,
                                    const std::function<text::PackedTokens()>& make) const;

  std::filesystem::path model_;
  TokenSharing sharing_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::map<std::string, text::PackedTokens> prepared_;  // by key
};

}  // namespace calque::job
