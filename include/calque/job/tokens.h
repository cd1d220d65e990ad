#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "calque/job/job.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

namespace calque::job {

// Where jobs find what others have tokenized: what `make` returns, now or under the same key
// before. Empty: nothing is shared.
using TokenSharing = std::function<text::PackedTokens(
    const std::string& key, const std::function<text::PackedTokens()>& make)>;

// Token ids of a job's texts. The tokenizer is opened once, when it is first needed.
class Tokens {
 public:
  // `model`: the folder or GGUF file that the tokenizer is in.
  explicit Tokens(std::filesystem::path model, TokenSharing sharing = {})
      : model_(std::move(model)), sharing_(std::move(sharing)) {}

  // Error(kInput) if calque does not read it (text/tokenizer.h).
  const text::Tokenizer& tokenizer();
  // What it takes of memory is free again, until it is needed once more.
  void close() { tokenizer_.reset(); }

  text::PackedTokens calibration(const CalibrationSettings& settings, Index vocab_size);
  // `text` with its number of windows filled in.
  text::PackedTokens evaluation(const EvaluationText& text, Index seqlen, Index vocab_size);
  // The BOS that llama-perplexity would put first; none for pre-tokenized ids or a tokenizer
  // without.
  std::optional<std::int32_t> bos(const EvaluationText& text);

 private:
  text::PackedTokens made_or_shared(const std::string& key,
                                    const std::function<text::PackedTokens()>& make) const;

  std::filesystem::path model_;
  TokenSharing sharing_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

}  // namespace calque::job
