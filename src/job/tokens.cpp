#include "calque/job/tokens.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/job/builtin_texts.h"

namespace calque::job {
namespace {

std::string chat_key(const text::ChatSettings& chat) {
  return fmt::format("chat {} {} {} {}", chat.name, chat.variables.dump(), chat.date, chat.plain);
}

// Everything that the tokens depend on. The tokenizer is part of the model's folder.
std::string calibration_key(const CalibrationSettings& settings,
                            const std::filesystem::path& model) {
  const text::PackingOptions& p = settings.packing;
  std::string key = fmt::format(
      "calibration {} x {} seed {} packing {} bos {} special {}\nmodel {}", p.n_samples, p.seqlen,
      p.seed, static_cast<int>(p.packing), p.add_bos, p.parse_special, io::stamp_of(model));
  if (!settings.tokens.empty()) return key + "tokens " + io::stamp_of(settings.tokens);
  for (const text::TextSource& s : settings.sources)
    key += fmt::format("source {} {} {} column {} split {} {} {} {}", s.weight, s.part,
                       s.may_run_out, s.text_column, s.split_on.has_value(),
                       s.split_on.value_or(""), chat_key(s.chat), io::stamp_of(s.path));
  return key;
}

std::string evaluation_key(const EvaluationText& text, Index seqlen, const text::TokenIds& prefix,
                           const std::filesystem::path& model) {
  return fmt::format("evaluation {} x {} after {} {} {} {}model {}", *text.windows, seqlen,
                     fmt::join(prefix, " "), text.tokens.empty() ? "text" : "tokens",
                     chat_key(text.chat), io::stamp_of(text.file()), io::stamp_of(model));
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
    text::PackedTokens packed =
        text::pack_tokens(settings.sources, tokenizer(), settings.packing, model_);
    for (std::size_t i = 0; i < settings.sources.size(); ++i)
      packed.manifest.sources[i].path = name_of_source(settings.sources[i]);
    return packed;
  });
}

void Tokens::check_given(const Job& job, const model::ModelConfig& config) {
  const CalibrationSettings& calibration = job.calibration;
  if (!calibration.tokens.empty())
    text::check_tokens(calibration.tokens, calibration.packing.seqlen,
                       calibration.packing.n_samples, config.vocab_size);
  if (!job.evaluate) return;
  for (const EvaluationText& text : job.evaluate->named_texts())
    if (!text.tokens.empty())
      text::check_tokens(text.tokens, job.evaluate->seqlen, *text.windows, config.vocab_size,
                         prefix(text, job.evaluate->add_bos, config), "windows");
}

text::PackedTokens Tokens::evaluation(const EvaluationText& text, Index seqlen,
                                      std::optional<bool> add_bos,
                                      const model::ModelConfig& config) {
  const text::TokenIds first = prefix(text, add_bos, config);
  const std::string key = evaluation_key(text, seqlen, first, model_);
  if (auto prepared = prepared_.extract(key)) return std::move(prepared.mapped());
  return made_or_shared(key, [&] {
    if (!text.tokens.empty())
      return text::load_tokens(text.tokens, seqlen, *text.windows, config.vocab_size, first);
    return text::consecutive_windows(text.text, tokenizer(), seqlen, *text.windows, first, model_,
                                     text.chat);
  });
}

void Tokens::prepare_evaluation(const EvaluationText& text, Index seqlen,
                                std::optional<bool> add_bos, const model::ModelConfig& config) {
  const text::TokenIds first = prefix(text, add_bos, config);
  text::PackedTokens packed = evaluation(text, seqlen, add_bos, config);
  prepared_.insert_or_assign(evaluation_key(text, seqlen, first, model_), std::move(packed));
}

namespace {

text::TokenIds bos_of(const model::ModelConfig& config) {
  if (config.bos_token_id) return {static_cast<std::int32_t>(*config.bos_token_id)};
  throw Error(ErrorKind::kConfig, "E246",
              "evaluate.add_bos is true, but neither the tokenizer nor config.json (bos_token_id) "
              "names a BOS. Set add_bos: auto, or give token ids that begin as they should");
}

}  // namespace

text::TokenIds Tokens::prefix(const EvaluationText& text, std::optional<bool> add_bos,
                              const model::ModelConfig& config) {
  if (text.tokens.empty()) return text_prefix(add_bos, config);
  return add_bos.value_or(false) ? bos_of(config) : text::TokenIds{};
}

text::TokenIds Tokens::text_prefix(std::optional<bool> add_bos, const model::ModelConfig& config) {
  if (!add_bos.value_or(true)) return {};
  const text::TokenIds first = tokenizer().prefix();
  return !first.empty() || !add_bos ? first : bos_of(config);
}

}  // namespace calque::job
