#include "calque/job/tokens.h"

#include <fmt/format.h>

#include "calque/io/file.h"

namespace calque::job {
namespace {

// Everything that the tokens depend on. The tokenizer is part of the model's folder.
std::string calibration_key(const CalibrationSettings& settings,
                            const std::filesystem::path& model) {
  const text::PackingOptions& p = settings.packing;
  std::string key = fmt::format(
      "calibration {} x {} seed {} packing {} bos {} special {}\nmodel {}", p.n_samples, p.seqlen,
      p.seed, static_cast<int>(p.packing), p.add_bos, p.parse_special, io::stamp_of(model));
  if (!settings.tokens.empty()) return key + "tokens " + io::stamp_of(settings.tokens);
  for (const text::TextSource& s : settings.sources)
    key += fmt::format("source {} column {} split {} {} {}", s.weight, s.text_column,
                       s.split_on.has_value(), s.split_on.value_or(""), io::stamp_of(s.path));
  return key;
}

std::string evaluation_key(const EvaluationText& text, Index seqlen,
                           const std::filesystem::path& model) {
  return fmt::format("evaluation {} x {} {} {}model {}", *text.windows, seqlen,
                     text.tokens.empty() ? "text" : "tokens", io::stamp_of(text.file()),
                     io::stamp_of(model));
}

}  // namespace

const text::Tokenizer& Tokens::tokenizer() {
  if (!tokenizer_) tokenizer_ = text::load_tokenizer(model_);
  return *tokenizer_;
}

text::PackedTokens Tokens::made_or_shared(const std::string& key,
                                          const std::function<text::PackedTokens()>& make) const {
  return sharing_ ? sharing_(key, make) : make();
}

text::PackedTokens Tokens::calibration(const CalibrationSettings& settings, Index vocab_size) {
  return made_or_shared(calibration_key(settings, model_), [&] {
    if (!settings.tokens.empty())
      return text::load_tokens(settings.tokens, settings.packing.seqlen, settings.packing.n_samples,
                               vocab_size);
    return text::pack_tokens(settings.sources, tokenizer(), settings.packing);
  });
}

text::PackedTokens Tokens::evaluation(const EvaluationText& text, Index seqlen, Index vocab_size) {
  return made_or_shared(evaluation_key(text, seqlen, model_), [&] {
    if (!text.tokens.empty())
      return text::load_tokens(text.tokens, seqlen, *text.windows, vocab_size);
    return text::consecutive_windows(text.text, tokenizer(), seqlen, *text.windows);
  });
}

std::optional<std::int32_t> Tokens::bos(const EvaluationText& text) {
  if (!text.tokens.empty()) return std::nullopt;
  const text::TokenIds prefix = tokenizer().prefix();
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
}

}  // namespace calque::job
