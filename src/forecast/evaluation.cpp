// The cost of an evaluation: every model over every text, block by block, then the heads.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "calque/eval/continuations.h"
#include "calque/eval/cost.h"
#include "calque/forecast/work.h"
#include "calque/formats/format.h"
#include "calque/forward/block_runner.h"
#include "calque/forward/cost.h"
#include "calque/job/evaluation_settings.h"
#include "forecast/stage_memory.h"

namespace calque::forecast {
namespace {

// 0 for a missing file: opening the job refuses it.
Bytes file_bytes(const job::EvaluationText& text) {
  std::error_code failed;
  const Bytes bytes = std::filesystem::file_size(text.file(), failed);
  return failed ? 0 : bytes;
}

// About four characters per token, or four bytes per id.
constexpr Bytes kBytesAToken = 4;

// Window lengths for the caches, given the number of tokens in a text.
std::vector<Index> cache_lengths(const job::EvaluationSettings& settings,
                                 const model::ModelConfig& config, Index tokens) {
  if (settings.kv_cache.empty()) return {};
  if (config.max_positions > 0) tokens = std::min(tokens, config.max_positions);
  return job::cache_seqlens(settings, std::max(tokens, settings.seqlen));
}

// The sequences of a task, from the sizes of its texts.
struct TaskShape {
  Index sequences = 0;
  Index tokens = 0;      // all sequences together, at their beginning
  Index longest = 1;     // sequence
  Index scored = 0;      // positions that are scored in one pass
  Index new_tokens = 0;  // that every sequence may grow by; 0: nothing is written

  double mean_length() const {
    return static_cast<double>(tokens) / static_cast<double>(sequences) +
           static_cast<double>(std::max<Index>(new_tokens, 1) - 1) / 2;
  }
  // Passes over the blocks.
  double passes() const {
    const Index whole = tokens + sequences * std::max<Index>(new_tokens - 1, 0);
    const Index batches = 1 + (whole - 1) / eval::kTokensAPass;
    return static_cast<double>(batches * std::max<Index>(new_tokens, 1));
  }
};

TaskShape shape_of(const job::TaskSettings& task, const model::ModelConfig& config) {
  TaskShape shape;
  const auto tokens_of = [](std::size_t bytes) { return static_cast<Index>(bytes / kBytesAToken); };
  const auto add = [&](Index tokens) {
    if (config.max_positions > 0) tokens = std::min(tokens, config.max_positions);
    ++shape.sequences;
    shape.tokens += tokens;
    shape.longest = std::max(shape.longest, tokens);
  };
  for (const text::Question& question : text::read_questions(task.file, task.limit).items) {
    const std::size_t asked =
        question.messages.is_null() ? question.text.size() : question.messages.dump().size();
    const Index context = 1 + tokens_of(task.format.before.size() + asked);
    for (const std::string& choice : question.choices) {
      const Index continuation = 1 + tokens_of(choice.size());
      add(context + continuation - 1);
      shape.scored += continuation;
    }
    if (question.has_choices()) continue;
    add(context);
    ++shape.scored;
    shape.new_tokens = task.max_new_tokens;
  }
  return shape;
}

// ---- Work

// All models over one text, in windows of one length, or over one task.
struct Round {
  double length = 0;
  double windows = 0;  // windows that are measured
  double models = 0;   // models run in addition to the reference
  double scored = 0;   // positions that are scored
  double passes = 1;   // readings of the blocks, which `windows` and `scored` are shared out to
};

std::vector<Round> rounds_of(const job::EvaluationSettings& settings,
                             const model::ModelConfig& config, double artifacts) {
  const double plain = artifacts + (settings.noise_floor ? 1 : 0);
  const double cached = static_cast<double>(settings.kv_cache.size()) * (1 + artifacts);
  std::vector<Round> rounds;
  for (const job::EvaluationText& text : settings.named_texts()) {
    const double tokens_there = static_cast<double>(file_bytes(text)) / kBytesAToken;
    const std::vector<Index> lengths =
        cache_lengths(settings, config, static_cast<Index>(tokens_there));
    const bool own = std::find(lengths.begin(), lengths.end(), settings.seqlen) != lengths.end();
    const double tokens =
        *text.windows > 0 ? static_cast<double>(*text.windows * settings.seqlen) : tokens_there;
    const auto seqlen = static_cast<double>(settings.seqlen);
    rounds.push_back({seqlen, tokens / seqlen, plain + (own ? cached : 0), tokens});
    for (const Index length : lengths)
      if (length != settings.seqlen) {
        const double windows = std::max(1.0, tokens / static_cast<double>(length));
        rounds.push_back({static_cast<double>(length), windows, plain + cached,
                          windows * static_cast<double>(length)});
      }
  }
  for (const job::TaskSettings& task : settings.tasks) {
    const TaskShape shape = shape_of(task, config);
    const auto times = static_cast<double>(std::max<Index>(shape.new_tokens, 1));
    rounds.push_back({shape.mean_length(), times * static_cast<double>(shape.sequences),
                      plain + cached, times * static_cast<double>(shape.scored), shape.passes()});
  }
  return rounds;
}

// One model over `sequences` sequences, whose blocks are read `passes` times.
Work model_work(const model::FamilySpec& family, double sequences, double length, double passes) {
  Work work;
  const double tokens = sequences * length;
  for (const model::BlockSpec& block : family.blocks) {
    const Cost between =
        forward::between_linears_cost(block, family.config.hidden_size, sequences, length);
    work[WorkKind::kEvaluatedAttention] += between.flops;
    work[WorkKind::kEvaluatedScores] += between.exponentials;
    work[WorkKind::kEvaluatedElements] += between.elements;
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers)
        work[WorkKind::kEvaluatedLinears] +=
            forward::linear_cost(linear.out_features(), linear.in_features(),
                                 forward::tokens_at(block, site, tokens))
                .flops;
    work[WorkKind::kEvaluatedWeights] += passes * static_cast<double>(weights_of(block));
  }
  return work;
}

// ---- Memory

// Rounds run one after the other; each is as large as the longest text makes it.
struct MemoryRound {
  Bytes seqlen = 0;
  Bytes windows = 0;
  Bytes models = 0;
  bool caches = false;  // keys and values are rounded
};

std::vector<MemoryRound> memory_rounds(const job::EvaluationSettings& settings,
                                       const JobShapes& shapes) {
  Bytes longest = 0, tokens = 0;  // the longest text; the most tokens read of one
  for (const job::EvaluationText& text : settings.named_texts()) {
    const Bytes there = file_bytes(text) / kBytesAToken;
    longest = std::max(longest, there);
    tokens =
        std::max(tokens, *text.windows > 0 ? bytes_of(*text.windows * settings.seqlen) : there);
  }
  const Bytes plain = 1 + (settings.noise_floor ? 1 : 0) + shapes.plans.size();
  const Bytes cached = plain + settings.kv_cache.size() * (1 + shapes.plans.size());
  const Bytes seqlen = bytes_of(settings.seqlen);
  std::vector<MemoryRound> rounds = {{seqlen, tokens / seqlen, plain, false}};
  for (const Index length :
       cache_lengths(settings, shapes.family.config, static_cast<Index>(longest)))
    rounds.push_back(
        {bytes_of(length), std::max<Bytes>(1, tokens / bytes_of(length)), cached, true});
  for (const job::TaskSettings& task : settings.tasks) {
    const TaskShape shape = shape_of(task, shapes.family.config);
    const bool writes = shape.new_tokens > 0;  // one model at a time
    const Index length = shape.longest + shape.new_tokens;
    const Index whole = shape.tokens + shape.sequences * shape.new_tokens;
    rounds.push_back({bytes_of(length), bytes_of(std::min(whole, eval::kTokensAPass) / length + 1),
                      writes ? 1 : cached, !settings.kv_cache.empty()});
  }
  return rounds;
}

// Models whose head is decoded as a whole for any of its rows.
Bytes packed_heads(const JobShapes& shapes) {
  return static_cast<Bytes>(
      std::count_if(shapes.plans.begin(), shapes.plans.end(), [&](const formats::ExportPlan& plan) {
        return format_of(plan.request).is_folder && plan.at(shapes.family.head().name).grid;
      }));
}

Peak running(const JobShapes& shapes, const model::BlockSpec& block, const MemoryRound& round,
             Bytes compute_bytes) {
  const auto length = static_cast<Index>(round.seqlen);
  Peak peak = program(shapes, true);
  add_weights(block, weights_of(block), peak);
  add_prepared(block, shapes.job.evaluate->noise_floor ? 2 : compute_bytes, nullptr, peak);
  peak.add(
      "sequences being computed",
      shapes.threads * (forward::sequence_bytes(shapes.family, length, compute_bytes, false) +
                        (round.caches ? forward::rounded_cache_bytes(shapes.family, length) : 0)));
  return peak;
}

void show_round(const JobShapes& shapes, const MemoryRound& round, LargestPeak& largest) {
  const model::ModelConfig& config = shapes.family.config;
  const bool bf16 =
      forward::compute_dtype_from(shapes.job.evaluate->dtype) == forward::ComputeDType::kBFloat16;
  const Bytes compute_bytes = bf16 ? 2 : 4;
  const std::vector<Bytes> activations(round.models,
                                       shapes.state_bytes() * round.windows * round.seqlen);
  if (shapes.family.layer_embeddings)
    largest.keep(program(shapes, true)
                     .add("embeddings of layers being made",
                          forward::layer_embedding_bytes(shapes.family, round.seqlen))
                     .activations(activations));
  for (const model::BlockSpec& block : shapes.family.blocks)
    largest.keep(running(shapes, block, round, compute_bytes).activations(activations));
  // The artifacts with rounded caches have the heads of those without.
  const Bytes heads = 1 + (shapes.job.evaluate->noise_floor ? 1 : 0) + shapes.plans.size();
  const Bytes strip =
      bytes_of(eval::held_tokens(config.vocab_size, config.hidden_size, static_cast<Index>(heads)) *
               config.hidden_size);
  Peak scoring = program(shapes, true);
  scoring.add("strips of all heads", heads * compute_bytes * strip);
  scoring.add("sums of all predictions",
              round.models * round.windows * round.seqlen * eval::kScoredPositionBytes);
  Peak reading = scoring;
  const Bytes packed = std::min(shapes.threads, packed_heads(shapes));
  reading.add("strips being read", 4 * std::min(shapes.threads, heads) * strip);
  reading.add("packed heads being read", (4 + shapes.source_bytes) * packed *
                                             bytes_of(config.vocab_size * config.hidden_size));
  largest.keep(reading.activations(activations));
  scoring.add("logits", shapes.threads * eval::scoring_bytes(config.hidden_size));
  largest.keep(scoring.activations(activations));
}

}  // namespace

Work evaluation_work(const job::Job& job, const model::FamilySpec& family,
                     const std::vector<formats::ExportPlan>& plans) {
  Work work;
  if (!job.evaluate) return work;
  const job::EvaluationSettings& settings = *job.evaluate;
  for (const Round& round : rounds_of(settings, family.config, static_cast<double>(plans.size()))) {
    work += (1 + round.models) * model_work(family, round.windows, round.length, round.passes);
    const Cost scoring = eval::scoring_cost((1 + round.models) * round.scored,
                                            family.config.vocab_size, family.config.hidden_size);
    work[WorkKind::kHeads] += scoring.flops;
    work[WorkKind::kProbabilities] += scoring.exponentials;
  }
  for (const job::EvaluationText& text : settings.named_texts())
    if (!text.text.empty())
      work[WorkKind::kEvaluatedBytes] += static_cast<double>(file_bytes(text));
  return work;
}

std::optional<StageMemory> evaluate_memory(const JobShapes& shapes) {
  if (!shapes.job.evaluate) return std::nullopt;
  LargestPeak largest;
  for (const MemoryRound& round : memory_rounds(*shapes.job.evaluate, shapes))
    show_round(shapes, round, largest);
  return std::move(largest).as("evaluate");
}

}  // namespace calque::forecast
