#include "pipeline/job_tokens.h"

#include "calque/text/tokenizer.h"

namespace calque::pipeline {

void check_tokenizer(const Job& job) {
  const bool evaluates_text = job.evaluate && !job.evaluate->text.empty();
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

text::PackedTokens evaluation_tokens(const Job& job, Index vocab_size) {
  const EvaluationSettings& settings = *job.evaluate;
  if (!settings.tokens.empty())
    return text::load_tokens(settings.tokens, settings.seqlen, settings.windows, vocab_size);
  return text::consecutive_windows(settings.text, *text::load_tokenizer(job.model.path),
                                   settings.seqlen, settings.windows);
}

std::optional<std::int32_t> bos_of(const Job& job) {
  if (!job.evaluate->tokens.empty()) return std::nullopt;
  const text::TokenIds prefix = text::load_tokenizer(job.model.path)->prefix();
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
}

}  // namespace calque::pipeline
