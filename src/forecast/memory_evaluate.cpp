#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "calque/formats/format.h"
#include "calque/forward/block_runner.h"
#include "calque/job/evaluation_settings.h"
#include "forecast/memory_moment.h"
#include "forecast/memory_stages.h"

// As memory_stages.cpp, of eval/evaluate.cpp, eval/lane.cpp and eval/row_scorer.cpp.

namespace calque::forecast {
namespace {

constexpr Bytes kLogits = 1 << 20;  // eval/row_scorer.cpp

// Every model over one text at one length of windows.
struct Round {
  Bytes seqlen = 0;
  Bytes windows = 0;
  Bytes models = 0;
  bool caches = false;  // keys and values are rounded
};

// A text of four characters a token. 0 for a file that is not there: the plan of the job refuses
// it.
Bytes tokens_in(const job::EvaluationText& text) {
  std::error_code failed;
  const Bytes bytes = std::filesystem::file_size(text.file(), failed);
  return failed ? 0 : bytes / 4;
}

// Tokens that are read of the longest text.
Bytes most_tokens(const job::EvaluationSettings& settings) {
  Bytes most = 0;
  for (const job::EvaluationText& text : settings.named_texts())
    most = std::max(
        most, *text.windows > 0 ? bytes_of(*text.windows * settings.seqlen) : tokens_in(text));
  return most;
}

Bytes longest_windows(const job::EvaluationSettings& settings, const model::ModelConfig& config) {
  Bytes longest = 0;
  for (const job::EvaluationText& text : settings.named_texts())
    longest = std::max(longest, tokens_in(text));
  if (config.max_positions > 0) longest = std::min(longest, bytes_of(config.max_positions));
  return std::max(longest, bytes_of(settings.seqlen));
}

// They come one after the other.
std::vector<Round> rounds_of(const job::EvaluationSettings& settings, const JobShapes& shapes) {
  const Bytes tokens = most_tokens(settings);
  const Bytes plain = 1 + (settings.noise_floor ? 1 : 0) + shapes.plans.size();
  const Bytes cached = plain + settings.kv_cache.size() * (1 + shapes.plans.size());
  const Bytes seqlen = bytes_of(settings.seqlen);
  std::vector<Round> rounds = {{seqlen, tokens / seqlen, plain, false}};
  if (settings.kv_cache.empty()) return rounds;
  const auto longest = static_cast<Index>(longest_windows(settings, shapes.family.config));
  for (const Index length : cache_seqlens(settings, longest))
    rounds.push_back(
        {bytes_of(length), std::max<Bytes>(1, tokens / bytes_of(length)), cached, true});
  return rounds;
}

Bytes rounded_keys(const JobShapes& shapes, const Round& round) {
  const model::ModelConfig& config = shapes.family.config;
  return round.caches ? 4 * round.seqlen * bytes_of(config.num_kv_heads * config.head_dim) : 0;
}

// Whether a model has a head that is not the reference's, bit by bit.
bool has_other_heads(const JobShapes& shapes) {
  return shapes.job.evaluate->noise_floor ||
         std::any_of(
             shapes.plans.begin(), shapes.plans.end(), [&](const formats::ExportPlan& plan) {
               return !format_of(plan.request).is_folder || plan.at(shapes.family.head().name).grid;
             });
}

void add_round(const JobShapes& shapes, const Round& round, std::optional<Moment>& worst) {
  const job::EvaluationSettings& settings = *shapes.job.evaluate;
  const bool bf16 = forward::compute_dtype_from(settings.dtype) == forward::ComputeDType::kBFloat16;
  const Bytes compute_bytes = bf16 ? 2 : 4;
  const Bytes smallest_compute_bytes = settings.noise_floor ? 2 : compute_bytes;
  const Bytes hidden = bytes_of(shapes.family.config.hidden_size);
  const Bytes vocabulary = bytes_of(shapes.family.config.vocab_size);
  // With a BOS all windows run twice.
  const Bytes copies = shapes.family.config.bos_token_id ? 2 : 1;
  const std::vector<Bytes> activations(round.models,
                                       4 * hidden * copies * round.windows * round.seqlen);
  for (const model::BlockSpec& block : shapes.family.blocks) {
    Moment running = program(true);
    running.add(fmt::format("weights of {} in fp32", block.name), 4 * weights_of(block));
    running.add("its linears in bfloat16", prepared_of(block, smallest_compute_bytes, nullptr));
    running.add("sequences being computed",
                shapes.threads * (sequence_bytes(shapes, round.seqlen, compute_bytes, false) +
                                  rounded_keys(shapes, round)));
    running.activations(activations);
    keep_larger(std::move(running), worst);
  }
  const Bytes head = vocabulary * hidden;
  // The reference's, which serves all that have the same, and one other.
  const Bytes held = has_other_heads(shapes) ? 2 : 1;
  const std::string heads_name = held == 2 ? "heads of 2 models" : "the head of all models";
  Moment heads = program(true);
  heads.add(heads_name, held * compute_bytes * head);
  heads.add("a head being read", (4 + shapes.source_bytes) * head);
  heads.activations(activations);
  keep_larger(std::move(heads), worst);
  Moment scoring = program(true);
  scoring.add(heads_name, held * compute_bytes * head);
  // Logits in fp32; probabilities and their logarithms in double, of the reference and one other.
  const Bytes rows = std::clamp<Bytes>(kLogits / vocabulary, 1, round.seqlen - 1);
  scoring.add("logits and distributions", shapes.threads * vocabulary * (rows * (4 + 16) + 16));
  scoring.activations(activations);
  keep_larger(std::move(scoring), worst);
}

}  // namespace

std::optional<StageMemory> evaluate_memory(const JobShapes& shapes) {
  if (!shapes.job.evaluate) return std::nullopt;
  std::optional<Moment> worst;
  for (const Round& round : rounds_of(*shapes.job.evaluate, shapes))
    add_round(shapes, round, worst);
  return as_stage(std::move(worst), "evaluate");
}

}  // namespace calque::forecast
