#include "pipeline/memory_stages.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/parallel.h"
#include "calque/model/block_runner.h"
#include "calque/quant/methods.h"
#include "pipeline/pass_method.h"
#include "pipeline/upstream_settings.h"

// Every function below follows the code that it speaks of, moment by moment; the stage is the
// moment that holds most. `4 *` is fp32.

namespace calque::pipeline {
namespace {

using Bytes = std::uint64_t;
constexpr Bytes kMiB = Bytes{1} << 20;

// The program with its libraries, tokenizer and tables; with LibTorch, oneDNN's generated code and
// what the allocators keep. Measured: resident after a job on a model of 64 channels.
constexpr Bytes kProgram = 40 * kMiB;
constexpr Bytes kTorch = 150 * kMiB;

constexpr Bytes kCollectedRows = 2048;  // calib/collect.cpp
constexpr Bytes kObservedRows = 4096;   // model/torch/block_pass.cpp
constexpr Bytes kObservedBytes = 64 * kMiB;
constexpr Bytes kLogits = 1 << 20;  // eval/evaluate.cpp
constexpr Bytes kInDouble = 2048;   // kernels/cpu/inverse_cholesky.cpp
constexpr Bytes kPanelRows = 64;    // kernels/cpu/panel.h
constexpr Bytes kTile = 256;

Bytes bytes_of(Index count) { return static_cast<Bytes>(count); }

Bytes elements(const model::TensorSpec& tensor) {
  Bytes count = 1;
  for (const Index n : tensor.shape) count *= bytes_of(n);
  return count;
}

// What is held at one time.
class Moment {
 public:
  Moment& add(std::string what, Bytes bytes) {
    if (bytes > 0) memory_.items.push_back({std::move(what), bytes});
    memory_.bytes += bytes;
    return *this;
  }
  Moment& activations(std::vector<Bytes> arrays) {
    memory_.activations = std::move(arrays);
    return *this;
  }
  Bytes total() const {
    Bytes total = memory_.bytes;
    for (const Bytes array : memory_.activations) total += array;
    return total;
  }
  StageMemory as(const char* stage) && {
    memory_.stage = stage;
    std::stable_sort(memory_.items.begin(), memory_.items.end(),
                     [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    return std::move(memory_);
  }

 private:
  StageMemory memory_;
};

void keep_larger(Moment candidate, std::optional<Moment>& worst) {
  if (!worst || candidate.total() > worst->total()) worst = std::move(candidate);
}

std::optional<StageMemory> as_stage(std::optional<Moment> worst, const char* stage) {
  if (!worst) return std::nullopt;
  return std::move(*worst).as(stage);
}

Moment program(bool torch) {
  Moment moment;
  moment.add("the program and its libraries", kProgram + (torch ? kTorch : 0));
  return moment;
}

Bytes weights_of(const model::BlockSpec& block) {
  Bytes total = 0;
  for (const model::TensorSpec& tensor : block.tensors()) total += elements(tensor);
  return total;
}

// Linears that have been prepared for the forward pass when `until` is reached (null: all), in
// bfloat16; fp32 ones are borrowed.
Bytes prepared_of(const JobShapes& shapes, const model::BlockSpec& block, Bytes compute_bytes,
                  const model::SiteSpec* until = nullptr) {
  Bytes total = 0;
  if (compute_bytes == 4) return total;
  for (const model::SiteSpec& site : block.sites) {
    if (&site == until) break;
    for (const model::LinearSpec& linear : site.readers)
      total += compute_bytes * elements(linear.weight);
  }
  (void)shapes;
  return total;
}

Moment with_block(const JobShapes& shapes, const model::BlockSpec& block,
                  const model::SiteSpec* site) {
  Moment moment = program(shapes.runs);
  moment.add(fmt::format("weights of {} in fp32", block.name), 4 * weights_of(block));
  moment.add("its linears in bfloat16", prepared_of(shapes, block, shapes.compute_bytes, site));
  return moment;
}

// The largest tensors that are read at the same time, as the file holds them.
Bytes being_read(const JobShapes& shapes, const model::BlockSpec& block) {
  std::vector<Bytes> sizes;
  for (const model::TensorSpec& tensor : block.tensors())
    sizes.push_back(shapes.source_bytes * elements(tensor));
  std::sort(sizes.rbegin(), sizes.rend());
  sizes.resize(std::min<std::size_t>(sizes.size(), shapes.threads));
  Bytes total = 0;
  for (const Bytes size : sizes) total += size;
  return total;
}

// Of one sequence while it goes through the wider half of a block (model/torch/block_math.cpp).
Bytes sequence_bytes(const JobShapes& shapes, Bytes length, Bytes compute_bytes, bool staged) {
  const model::ModelConfig& config = shapes.family.config;
  const Bytes hidden = bytes_of(config.hidden_size);
  const Bytes heads = bytes_of(config.num_heads * config.head_dim);
  const Bytes both = heads + 2 * bytes_of(config.num_kv_heads * config.head_dim);
  const Bytes width = bytes_of(std::max(config.intermediate_size, config.expert_intermediate_size));
  const Bytes attention = (hidden + both) * compute_bytes + 4 * both;
  const Bytes mlp = (hidden + width) * compute_bytes;
  const Bytes inner = staged ? 0 : compute_bytes;
  return length * std::max(attention + inner * heads, mlp + inner * width);
}

Bytes calibration_tokens(const JobShapes& shapes) {
  const text::PackingOptions& packing = shapes.job.calibration.packing;
  return bytes_of(packing.n_samples * packing.seqlen);
}

Bytes widest_stash(const model::BlockSpec& block) {
  Index width = 0;
  for (const model::SiteSpec& site : block.sites)
    if (site.kind != model::SiteKind::kAttnIn && site.kind != model::SiteKind::kMlpIn)
      width = std::max(width, site.features());
  return bytes_of(width);
}

// Hidden states, of the original too; what it had at its sites; and what the block keeps between
// its stages.
std::vector<Bytes> activations_of(const JobShapes& shapes, const model::BlockSpec& block,
                                  Bytes stash_width) {
  if (!shapes.runs) return {};
  const Bytes tokens = calibration_tokens(shapes);
  const Bytes hidden = 4 * tokens * bytes_of(shapes.family.config.hidden_size);
  std::vector<Bytes> arrays = {hidden};
  if (shapes.upstream) {
    arrays.push_back(hidden);
    for (const model::SiteSpec& site : block.sites)
      if (site.expert < 0)
        arrays.push_back(tokens * bytes_of(site.features()) * shapes.compute_bytes);
  }
  if (stash_width > 0) arrays.push_back(tokens * stash_width * shapes.compute_bytes);
  return arrays;
}

// Norms are shown in chunks of their own; other sites keep their inputs for all rows.
bool is_norm(const model::SiteSpec& site) {
  return site.kind == model::SiteKind::kAttnIn || site.kind == model::SiteKind::kMlpIn;
}

std::vector<Bytes> activations_at(const JobShapes& shapes, const model::BlockSpec& block,
                                  const model::SiteSpec& site) {
  return activations_of(shapes, block, is_norm(site) ? 0 : bytes_of(site.features()));
}

std::string square(const char* what, const model::BlockSpec& block, const model::SiteSpec& site) {
  return fmt::format("{} of {} {}, {} x {}", what, block.name, name_of(site.kind), site.features(),
                     site.features());
}

Bytes gram(const model::SiteSpec& site) {
  return 4 * bytes_of(site.features()) * bytes_of(site.features());
}

// Statistics of the block's other sites are kept until it has run.
Bytes kept_grams(const JobShapes& shapes, const model::BlockSpec& block,
                 const model::SiteSpec& but) {
  Bytes total = 0;
  if (!shapes.runs || shapes.job.quantization.propagate_error) return total;
  for (const model::SiteSpec& site : block.sites)
    if (&site != &but) total += gram(site);
  return total;
}

}  // namespace

JobShapes::JobShapes(const Job& the_job, const model::FamilySpec& the_family,
                     const std::vector<artifact::ExportPlan>& the_plans)
    : job(the_job), family(the_family), plans(the_plans) {
  const bool linears = std::any_of(plans.begin(), plans.end(), quantizes_a_linear);
  runs = job.calibration.given() && linears;
  for (const artifact::ExportPlan& plan : plans)
    upstream = upstream || (runs && upstream_correction_for(job, plan) > 0);
  threads = static_cast<Bytes>(job.runtime.threads > 0
                                   ? std::min(job.runtime.threads, available_threads())
                                   : available_threads());
  if (model::compute_dtype_from(job.runtime.forward_dtype) == model::ComputeDType::kBFloat16)
    compute_bytes = 2;
  source_bytes = family.config.dtype == "float32" ? 4 : 2;
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

namespace {

const artifact::TensorPlan* rounded(const artifact::ExportPlan& plan,
                                    const model::LinearSpec& linear) {
  const artifact::TensorPlan& tensor = plan.at(linear.weight.name);
  return tensor.grid ? &tensor : nullptr;
}

// quant/gptq.cpp, quant/rtn.cpp: one matrix, after the Hessian and its factor are there.
Bytes rounding_bytes(const JobShapes& shapes, const artifact::TensorPlan& planned, bool gptq) {
  const Bytes rows = bytes_of(planned.tensor.shape[0]), columns = bytes_of(planned.tensor.shape[1]);
  const Bytes weights = rows * columns;
  const bool block = planned.grid->block.has_value();
  const Bytes codes = block ? planned.bytes : weights;
  const Bytes groups =
      block ? 0 : 2 * 4 * rows * bytes_of(planned.grid->groups(planned.tensor.shape[1]));
  const Bytes strip = std::min(weights, bytes_of(quant::GptqOptions{}.strip_weights));
  // In a strip: weights in order and codes twice, or dequantized values; panels of the refinement;
  // with desc_act the ordered weights stay; a K-quant has two sets of fields.
  const Bytes panels = shapes.threads * 3 * 4 * kPanelRows * columns;
  const Bytes fp32 = 4 * strip * (planned.grid->desc_act ? 2 : 1);
  const Bytes extra = !gptq ? 0 : block ? 3 * strip : 2 * strip;
  const Bytes whole = strip < weights || !gptq ? codes : 0;
  return fp32 + extra + panels + whole + groups;
}

}  // namespace

// site_rounding.cpp: correct_site, round_site, round_and_write.
std::optional<StageMemory> quantize_memory(const JobShapes& shapes) {
  const bool gptq = shapes.runs && shapes.job.quantization.rounding() == "gptq";
  std::optional<Moment> worst;
  for (const artifact::ExportPlan& plan : shapes.plans)
    for (const model::BlockSpec& block : shapes.family.blocks)
      for (const model::SiteSpec& site : block.sites) {
        const Bytes channels = bytes_of(site.features());
        const bool in_double = channels <= kInDouble;
        Moment start = with_block(shapes, block, shapes.runs ? &site : &block.sites.front());
        if (shapes.runs) start.add(square("Hessian", block, site), gram(site));
        start.add("Gram matrices of the block's other sites", kept_grams(shapes, block, site));
        if (gptq) start.add(square("factor", block, site), gram(site));
        start.activations(activations_at(shapes, block, site));
        if (gptq) {
          Moment factoring = start;
          factoring.add("the factorisation, in double", in_double ? 2 * 2 * gram(site) : 0);
          if (shapes.upstream && site.expert < 0) {
            factoring.add(square("shift", block, site), gram(site));
            factoring.add("rows being multiplied",
                          in_double ? 0 : 4 * bytes_of(quant::GptqOptions{}.strip_weights));
          }
          keep_larger(std::move(factoring), worst);
        }
        for (const model::LinearSpec& linear : site.readers) {
          const artifact::TensorPlan* const planned = rounded(plan, linear);
          if (planned == nullptr) continue;
          const Bytes weights = elements(linear.weight);
          Moment rounding = start;
          rounding.add(fmt::format("{} while it is rounded", linear.name),
                       rounding_bytes(shapes, *planned, gptq));
          keep_larger(std::move(rounding), worst);
          Moment writing = start;
          writing.add(fmt::format("codes of {} on their way to the file", linear.name),
                      (planned->grid->block ? planned->bytes : weights) + 2 * planned->bytes);
          keep_larger(std::move(writing), worst);
        }
      }
  return as_stage(std::move(worst), "quantize");
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
        moment.add(fmt::format("{} in strips", planned.tensor.name), 64 * kMiB);
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
  // With a BOS all windows run twice. Without a number of windows: what a text of four characters a
  // token has.
  const Bytes windows =
      settings.windows > 0
          ? bytes_of(settings.windows)
          : std::filesystem::file_size(settings.text.empty() ? settings.tokens : settings.text) /
                (4 * bytes_of(settings.seqlen));
  const Bytes copies = shapes.family.config.bos_token_id ? 2 : 1;
  const std::vector<Bytes> activations(models,
                                       4 * hidden * copies * windows * bytes_of(settings.seqlen));
  std::optional<Moment> worst;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    Moment running = program(true);
    running.add(fmt::format("weights of {} in fp32", block.name), 4 * weights_of(block));
    running.add("its linears in bfloat16", prepared_of(shapes, block, compute_bytes));
    running.add(
        "sequences being computed",
        shapes.threads * sequence_bytes(shapes, bytes_of(settings.seqlen), compute_bytes, false));
    running.activations(activations);
    keep_larger(std::move(running), worst);
  }
  const Bytes head = vocabulary * hidden;
  Moment heads = program(true);
  heads.add(fmt::format("heads of {} models", models), models * compute_bytes * head);
  heads.add("a head being read", (4 + shapes.source_bytes) * head);
  heads.activations(activations);
  keep_larger(std::move(heads), worst);
  Moment scoring = program(true);
  scoring.add(fmt::format("heads of {} models", models), models * compute_bytes * head);
  // Logits in fp32; probabilities and their logarithms in double, of the reference and one other.
  const Bytes rows = std::clamp<Bytes>(kLogits / vocabulary, 1, bytes_of(settings.seqlen) - 1);
  scoring.add("logits and distributions", shapes.threads * vocabulary * (rows * (4 + 16) + 16));
  scoring.activations(activations);
  keep_larger(std::move(scoring), worst);
  return as_stage(std::move(worst), "evaluate");
}

}  // namespace calque::pipeline
