#include "pipeline/memory_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "calque/model/block_runner.h"
#include "pipeline/memory_moment.h"

// Every function below follows the code that it speaks of, moment by moment; the stage is the
// moment that holds most. `4 *` is fp32.

namespace calque::pipeline {
namespace {

constexpr Bytes kCollectedRows = 2048;  // calib/collect.cpp
constexpr Bytes kObservedRows = 4096;   // model/torch/block_pass.cpp
constexpr Bytes kObservedBytes = 64 * kMiB;
constexpr Bytes kLogits = 1 << 20;  // eval/row_scorer.cpp

// Of the longest text. Without a number of windows: what a text of four characters a token has.
Bytes most_windows(const EvaluationSettings& settings) {
  Bytes most = 0;
  for (const EvaluationText& text : settings.named_texts())
    most = std::max(most, *text.windows > 0 ? bytes_of(*text.windows)
                                            : std::filesystem::file_size(text.file()) /
                                                  (4 * bytes_of(settings.seqlen)));
  return most;
}

}  // namespace

// pass.cpp: calibrate_and_round, model/torch/block_pass.cpp: run_half.
std::optional<StageMemory> forward_memory(const JobShapes& shapes) {
  if (!shapes.runs) return std::nullopt;
  const auto length = bytes_of(shapes.job.calibration.packing.seqlen);
  std::optional<Moment> worst;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    Moment loading = with_block(shapes, block, &block.sites.front());
    loading.add("tensors being read", being_read(shapes, block));
    loading.activations(activations_of(shapes, block, 0));
    keep_larger(std::move(loading), worst);
    Moment running = with_block(shapes, block, nullptr);
    running.add(fmt::format("sequences being computed, {} at a time", shapes.threads),
                shapes.threads * sequence_bytes(shapes, length, shapes.compute_bytes, true));
    running.activations(activations_of(shapes, block, widest_stash(block)));
    keep_larger(std::move(running), worst);
  }
  Moment embedding = program(true);
  const Bytes hidden = bytes_of(shapes.family.config.hidden_size);
  const Bytes rows =
      std::min(bytes_of(shapes.family.config.vocab_size), calibration_tokens(shapes));
  embedding.add("rows of the embedding in fp32", 4 * rows * hidden);
  embedding.activations({4 * calibration_tokens(shapes) * hidden});
  keep_larger(std::move(embedding), worst);
  return as_stage(std::move(worst), "forward");
}

// pass.cpp: site_input; calib/collect.cpp; reference_stream.cpp: Comparison.
std::optional<StageMemory> statistics_memory(const JobShapes& shapes) {
  if (!shapes.runs) return std::nullopt;
  std::optional<Moment> worst;
  for (const model::BlockSpec& block : shapes.family.blocks)
    for (const model::SiteSpec& site : block.sites) {
      const Bytes channels = bytes_of(site.features());
      Moment moment = with_block(shapes, block, &site);
      moment.add(square("Gram matrix", block, site), gram(site));
      moment.add("Gram matrices of the block's other sites", kept_grams(shapes, block, site));
      // bf16 rows are widened where the processor does not multiply them fast.
      const Bytes row = shapes.compute_bytes == 2 ? 2 + 4 : 4;
      moment.add("rows being summed", kCollectedRows * channels * row);
      const Bytes row_bytes = channels * shapes.compute_bytes;
      if (is_norm(site))
        moment.add("rows being normed",
                   row_bytes * std::min({kObservedRows, kObservedBytes / row_bytes,
                                         calibration_tokens(shapes)}));
      if (shapes.upstream && site.expert < 0) {
        moment.add(square("shift", block, site), gram(site));
        moment.add("rows being compared", 2 * kCollectedRows * channels * 4);
      }
      moment.activations(activations_at(shapes, block, site));
      keep_larger(std::move(moment), worst);
    }
  return as_stage(std::move(worst), "statistics");
}

// site_rounding.cpp: round_outside_blocks; the writers' finish(). No activations are left.
std::optional<StageMemory> write_memory(const JobShapes& shapes) {
  std::optional<Moment> worst;
  for (const artifact::ExportPlan& plan : shapes.plans)
    for (const artifact::TensorPlan& planned : plan.tensors) {
      if (planned.in_block_linear) continue;
      const Bytes count = elements(planned.tensor);
      const bool gguf = plan.request.format == "gguf";
      Moment moment = program(shapes.runs);
      const Bytes source = shapes.source_bytes * count;
      if (planned.grid && planned.grid->block)
        moment.add(fmt::format("{} in strips", planned.tensor.name), kStrips);
      else if (planned.grid)
        moment.add(fmt::format("{} in fp32, its codes and what is written", planned.tensor.name),
                   4 * count + count + planned.bytes);
      else
        moment.add(fmt::format("{} as stored{}", planned.tensor.name, gguf ? ", twice" : ""),
                   gguf ? source + planned.bytes : source);
      keep_larger(std::move(moment), worst);
    }
  return as_stage(std::move(worst), "write");
}

// eval/evaluate.cpp.
std::optional<StageMemory> evaluate_memory(const JobShapes& shapes) {
  if (!shapes.job.evaluate) return std::nullopt;
  const EvaluationSettings& settings = *shapes.job.evaluate;
  const bool bf16 = model::compute_dtype_from(settings.dtype) == model::ComputeDType::kBFloat16;
  const Bytes compute_bytes = bf16 ? 2 : 4;
  const Bytes models = 1 + shapes.plans.size();
  const Bytes hidden = bytes_of(shapes.family.config.hidden_size);
  const Bytes vocabulary = bytes_of(shapes.family.config.vocab_size);
  const Bytes windows = most_windows(settings);  // the texts come one after the other
  // With a BOS all windows run twice.
  const Bytes copies = shapes.family.config.bos_token_id ? 2 : 1;
  const std::vector<Bytes> activations(models,
                                       4 * hidden * copies * windows * bytes_of(settings.seqlen));
  std::optional<Moment> worst;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    Moment running = program(true);
    running.add(fmt::format("weights of {} in fp32", block.name), 4 * weights_of(block));
    running.add("its linears in bfloat16", prepared_of(block, compute_bytes, nullptr));
    running.add(
        "sequences being computed",
        shapes.threads * sequence_bytes(shapes, bytes_of(settings.seqlen), compute_bytes, false));
    running.activations(activations);
    keep_larger(std::move(running), worst);
  }
  const Bytes head = vocabulary * hidden;
  // The reference's and one other.
  const Bytes held = std::min<Bytes>(models, 2);
  Moment heads = program(true);
  heads.add(fmt::format("heads of {} models", held), held * compute_bytes * head);
  heads.add("a head being read", (4 + shapes.source_bytes) * head);
  heads.activations(activations);
  keep_larger(std::move(heads), worst);
  Moment scoring = program(true);
  scoring.add(fmt::format("heads of {} models", held), held * compute_bytes * head);
  // Logits in fp32; probabilities and their logarithms in double, of the reference and one other.
  const Bytes rows = std::clamp<Bytes>(kLogits / vocabulary, 1, bytes_of(settings.seqlen) - 1);
  scoring.add("logits and distributions", shapes.threads * vocabulary * (rows * (4 + 16) + 16));
  scoring.activations(activations);
  keep_larger(std::move(scoring), worst);
  return as_stage(std::move(worst), "evaluate");
}

}  // namespace calque::pipeline
