#include "job/job_tokens.h"

#include <fmt/format.h>

#include "calque/text/tokenizer.h"

namespace calque::job {
namespace {

text::PackedTokens made_or_shared(resume::SharedWork* shared, const std::string& key,
                                  const std::function<text::PackedTokens()>& make) {
  return shared ? shared->tokens(key, make) : make();
}

// Everything that the tokens depend on; the model's folder holds the tokenizer.
std::string calibration_key(const Job& job) {
  const CalibrationSettings& settings = job.calibration;
  const text::PackingOptions& p = settings.packing;
  std::string key = fmt::format(
      "calibration {} x {} seed {} packing {} bos {} special {}\nmodel {}", p.n_samples, p.seqlen,
      p.seed, static_cast<int>(p.packing), p.add_bos, p.parse_special, identity_of(job.model.path));
  if (!settings.tokens.empty()) return key + "tokens " + identity_of(settings.tokens);
  for (const text::TextSource& s : settings.sources)
    key += fmt::format("source {} column {} split {} {} {}", s.weight, s.text_column,
                       s.split_on.has_value(), s.split_on.value_or(""), identity_of(s.path));
  return key;
}

std::string evaluation_key(const EvaluationText& text, Index seqlen,
                           const std::filesystem::path& model) {
  return fmt::format("evaluation {} x {} {} {}model {}", *text.windows, seqlen,
                     text.tokens.empty() ? "text" : "tokens", identity_of(text.file()),
                     identity_of(model));
}

}  // namespace

void check_tokenizer(const Job& job) {
  bool evaluates_text = false;
  if (job.evaluate)
    for (const EvaluationText& text : job.evaluate->named_texts())
      evaluates_text = evaluates_text || !text.text.empty();
  if (evaluates_text || !job.calibration.sources.empty()) text::load_tokenizer(job.model.path);
}

text::PackedTokens calibration_tokens(const Job& job, Index vocab_size, resume::SharedWork* shared) {
  const CalibrationSettings& settings = job.calibration;
  return made_or_shared(shared, calibration_key(job), [&] {
    if (!settings.tokens.empty())
      return text::load_tokens(settings.tokens, settings.packing.seqlen, settings.packing.n_samples,
                               vocab_size);
    return text::pack_tokens(settings.sources, *text::load_tokenizer(job.model.path),
                             settings.packing);
  });
}

text::PackedTokens evaluation_tokens(const EvaluationText& text, Index seqlen,
                                     const std::filesystem::path& model, Index vocab_size,
                                     resume::SharedWork* shared) {
  return made_or_shared(shared, evaluation_key(text, seqlen, model), [&] {
    if (!text.tokens.empty())
      return text::load_tokens(text.tokens, seqlen, *text.windows, vocab_size);
    return text::consecutive_windows(text.text, *text::load_tokenizer(model), seqlen,
                                     *text.windows);
  });
}

std::optional<std::int32_t> bos_of(const EvaluationText& text, const std::filesystem::path& model) {
  if (!text.tokens.empty()) return std::nullopt;
  const text::TokenIds prefix = text::load_tokenizer(model)->prefix();
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
}

}  // namespace calque::job
