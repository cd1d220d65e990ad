#include "forecast/memory_stages.h"

#include <fmt/format.h>

#include <algorithm>

#include "forecast/memory_moment.h"
#include "calque/formats/format.h"

// Every function below follows the code that it speaks of, moment by moment; the stage is the
// moment that holds most. `4 *` is fp32.

namespace calque::forecast {
namespace {

constexpr Bytes kCollectedRows = 2048;  // calib/collect.cpp
constexpr Bytes kObservedRows = 4096;   // model/torch/block_pass.cpp
constexpr Bytes kObservedBytes = 64 * kMiB;

// Of `row_bytes` each, that an observer gets at a time.
Bytes observed_rows(const JobShapes& shapes, Bytes row_bytes) {
  return std::min({kObservedRows, kObservedBytes / row_bytes, calibration_tokens(shapes)});
}

// While a site's inputs are looked at, and between two looks.
Moment looking(const JobShapes& shapes, const model::BlockSpec& block,
               const model::SiteSpec& site) {
  Moment moment = with_block(shapes, block, &site);
  moment.add(square("Gram matrix", block, site), gram(site));
  moment.add("Gram matrices of the block's other sites", kept_grams(shapes, block, site));
  if (shapes.upstream && site.expert < 0) moment.add(square("shift", block, site), gram(site));
  const Bytes row_bytes = bytes_of(site.features()) * shapes.compute_bytes;
  if (is_norm(site)) moment.add("rows being normed", row_bytes * observed_rows(shapes, row_bytes));
  moment.activations(activations_at(shapes, block, site));
  return moment;
}

// The forward pass runs between two looks: the next rows are normed, those of a block of sums wait.
Moment between_looks(const JobShapes& shapes, const model::BlockSpec& block,
                     const model::SiteSpec& site) {
  Moment moment = looking(shapes, block, site);
  const Bytes row_bytes = bytes_of(site.features()) * shapes.compute_bytes;
  if (observed_rows(shapes, row_bytes) % kCollectedRows != 0)
    moment.add("rows that wait to be summed", kCollectedRows * row_bytes);
  return moment;
}

bool is_looked_at_twice(const JobShapes& shapes, const model::SiteSpec& site) {
  const Bytes row_bytes = bytes_of(site.features()) * shapes.compute_bytes;
  return calibration_tokens(shapes) > observed_rows(shapes, row_bytes);
}

}  // namespace

// model/torch/block_pass.cpp lets go of rows in files once they have been looked at, and of a
// sequence once it went through half a block.
Bytes rows_being_read(const JobShapes& shapes) {
  if (!shapes.runs) return 0;
  const Bytes hidden = 4 * bytes_of(shapes.family.config.hidden_size);
  const auto length = bytes_of(shapes.job.calibration.packing.seqlen);
  Bytes most = 0;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    const Bytes stash = widest_stash(block) * shapes.compute_bytes;
    most = std::max(most, shapes.threads * length * (hidden + stash));
    for (const model::SiteSpec& site : block.sites) {
      const Bytes row = is_norm(site) ? hidden : bytes_of(site.features()) * shapes.compute_bytes;
      most = std::max(most, (shapes.upstream ? 2 : 1) * row * observed_rows(shapes, row));
    }
  }
  return most;
}

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
    for (const model::SiteSpec& site : block.sites)
      if (is_looked_at_twice(shapes, site)) keep_larger(between_looks(shapes, block, site), worst);
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
      Moment moment = looking(shapes, block, site);
      // bf16 rows are widened where the processor does not multiply them fast.
      const Bytes row = shapes.compute_bytes == 2 ? 2 + 4 : 4;
      moment.add("rows being summed", kCollectedRows * channels * row);
      if (shapes.upstream && site.expert < 0)
        moment.add("rows being compared", 2 * kCollectedRows * channels * 4);
      keep_larger(std::move(moment), worst);
    }
  return as_stage(std::move(worst), "statistics");
}

// site_rounding.cpp: round_outside_blocks; the writers' finish(). No activations are left.
std::optional<StageMemory> write_memory(const JobShapes& shapes) {
  std::optional<Moment> worst;
  for (const formats::ExportPlan& plan : shapes.plans)
    for (const formats::TensorPlan& planned : plan.tensors) {
      if (planned.in_block_linear) continue;
      const Bytes count = elements(planned.tensor);
      const bool casts = !format_of(plan.request).is_folder;
      Moment moment = program(shapes.runs);
      const Bytes source = shapes.source_bytes * count;
      if (planned.grid && planned.grid->block)
        moment.add(fmt::format("{} in strips", planned.tensor.name), kStrips);
      else if (planned.grid)
        moment.add(fmt::format("{} in fp32, its codes and what is written", planned.tensor.name),
                   4 * count + count + planned.bytes);
      else
        moment.add(fmt::format("{} as stored{}", planned.tensor.name, casts ? ", twice" : ""),
                   casts ? source + planned.bytes : source);
      keep_larger(std::move(moment), worst);
    }
  return as_stage(std::move(worst), "write");
}

}  // namespace calque::forecast
