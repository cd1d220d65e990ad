#include "pipeline/job_tokens.h"

#include "calque/text/tokenizer.h"

namespace calque::pipeline {

void check_tokenizer(const Job& job) {
  bool evaluates_text = false;
  if (job.evaluate)
    for (const EvaluationText& text : job.evaluate->named_texts())
      evaluates_text = evaluates_text || !text.text.empty();
  if (evaluates_text || !job.calibration.sources.empty()) text::load_tokenizer(job.model.path);
}

text::PackedTokens calibration_tokens(const Job& job, Index vocab_size) {
  const CalibrationSettings& settings = job.calibration;
  if (!settings.tokens.empty())
    return text::load_tokens(settings.tokens, settings.packing.seqlen, settings.packing.n_samples,
                             vocab_size);
  return text::pack_tokens(settings.sources, *text::load_tokenizer(job.model.path),
                           settings.packing);
}

text::PackedTokens evaluation_tokens(const EvaluationText& text, Index seqlen,
                                     const std::filesystem::path& model, Index vocab_size) {
  if (!text.tokens.empty())
    return text::load_tokens(text.tokens, seqlen, *text.windows, vocab_size);
  return text::consecutive_windows(text.text, *text::load_tokenizer(model), seqlen, *text.windows);
}

std::optional<std::int32_t> bos_of(const EvaluationText& text, const std::filesystem::path& model) {
  if (!text.tokens.empty()) return std::nullopt;
  const text::TokenIds prefix = text::load_tokenizer(model)->prefix();
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
}

}  // namespace calque::pipeline
