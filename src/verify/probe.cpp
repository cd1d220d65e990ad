#include "verify/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "calque/core/error.h"
#include "calque/forward/block_runner.h"
#include "calque/forward/token_rows.h"
#include "calque/io/json.h"
#include "calque/model/family.h"
#include "calque/text/tokenizer.h"
#include "calque/verify/verify_artifact.h"

namespace calque::verify {
namespace {

constexpr std::size_t kPromptTokens = 64;
constexpr std::size_t kTop = 8;

constexpr const char* kText =
    "The lamp stood in the window, and whoever came over the hill at night could see it from far "
    "away. \"Who keeps it burning?\" asked the traveller. Nobody knew. There were 3 houses in the "
    "valley, 12 cows, and one bridge; in the year 1874 the river had carried the old one off. He "
    "counted the steps to the door, knocked twice, and waited for an answer that did not come.";

std::vector<std::int32_t> text_prompt(const std::filesystem::path& artifact) {
  const auto tokenizer = text::load_tokenizer(artifact);
  std::vector<std::int32_t> ids = tokenizer->prefix();
  const text::TokenIds body = tokenizer->encode(kText);
  ids.insert(ids.end(), body.begin(), body.end());
  ids.resize(std::min(ids.size(), kPromptTokens));
  return ids;
}

std::vector<std::int32_t> fixed_prompt(std::int64_t vocab_size) {
  std::vector<std::int32_t> ids(kPromptTokens);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * 7919 % vocab_size);
  return ids;
}

}  // namespace

Matrix<float> prompt_logits(const model::WeightSource& weights, const model::ModelConfig& config,
                            std::span<const std::int32_t> ids, int threads) {
  const model::FamilySpec family = model::family_of(config);
  const auto runner = forward::make_block_runner(
      config, {.dtype = forward::ComputeDType::kFloat32, .threads = threads});
  const auto tokens = static_cast<Index>(ids.size());
  Matrix<std::int32_t> ids_BS(1, tokens);
  std::copy(ids.begin(), ids.end(), ids_BS.data());
  const std::vector<Index> lengths_B = {tokens};
  const auto hidden = forward::embed_tokens(*runner, weights, family, ids_BS, lengths_B);
  for (const model::BlockSpec& block : family.blocks) {
    model::BlockWeights block_weights = model::load_block(weights, block);
    runner->run_block(block, block_weights, *hidden, nullptr);
  }
  const auto head =
      runner->make_head(weights.load(family.final_norm.name), weights.load(family.head().name));
  Matrix<float> logits_TV(tokens, config.vocab_size);
  head->logits(*hidden, 0, 0, logits_TV);
  return logits_TV;
}

std::vector<std::int32_t> probe_prompt(const std::filesystem::path& artifact,
                                       std::int64_t vocab_size) {
  try {
    if (!text::has_tokenizer(artifact)) return fixed_prompt(vocab_size);
    std::vector<std::int32_t> ids = text_prompt(artifact);
    const bool known = std::all_of(ids.begin(), ids.end(),
                                   [&](std::int32_t id) { return id >= 0 && id < vocab_size; });
    if (known && !ids.empty()) return ids;
  } catch (const Error&) {  // a tokenizer that calque does not read
  }
  return fixed_prompt(vocab_size);
}

Probe make_probe(const formats::ArtifactReader& reader, const std::vector<std::int32_t>& ids,
                 int threads) {
  const Matrix<float> logits_TV = prompt_logits(reader, reader.config(), ids, threads);
  const float* last = logits_TV.row(logits_TV.rows() - 1);
  std::vector<std::int32_t> order(static_cast<std::size_t>(logits_TV.cols()));
  std::iota(order.begin(), order.end(), 0);
  const std::size_t top = std::min(kTop, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      return last[a] != last[b] ? last[a] > last[b] : a < b;
                    });
  Probe probe;
  probe.ids = ids;
  for (std::size_t i = 0; i < top; ++i) {
    probe.top_ids.push_back(order[i]);
    probe.top_logits.push_back(last[order[i]]);
  }
  return probe;
}

std::string probe_json(const Probe& probe) {
  const io::Json json = {
      {"ids", probe.ids}, {"top_ids", probe.top_ids}, {"top_logits", probe.top_logits}};
  return json.dump();
}

std::optional<Probe> parse_probe(const std::string& metrics_json) {
  const io::Json json = io::parse_json_if_valid(metrics_json).value_or(io::Json());
  if (!json.is_object())
    throw Error(ErrorKind::kInput, "E252", "calque/metrics.json: no JSON object");
  const io::Json* written = json.find("probe");
  if (written == nullptr) return std::nullopt;
  Probe probe;
  try {
    probe.ids = written->at("ids").get<std::vector<std::int32_t>>();
    probe.top_ids = written->at("top_ids").get<std::vector<std::int32_t>>();
    probe.top_logits = written->at("top_logits").get<std::vector<float>>();
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, "E252",
                fmt::format("calque/metrics.json: the probe is damaged ({})", error.what()));
  }
  if (probe.ids.empty() || probe.top_ids.empty() || probe.top_ids.size() != probe.top_logits.size())
    throw Error(ErrorKind::kInput, "E252",
                fmt::format("calque/metrics.json: the probe has {} ids, {} top_ids and {} "
                            "top_logits",
                            probe.ids.size(), probe.top_ids.size(), probe.top_logits.size()));
  return probe;
}

}  // namespace calque::verify
