// The memory of each stage of a job, peak by peak; a stage counts with its largest peak. Every
// function names the code it follows; operations publish their memory in their headers.
#include "forecast/stage_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "calque/calib/collect.h"
#include "calque/calib/reference_stream.h"
#include "calque/core/parallel.h"
#include "calque/formats/format.h"
#include "calque/forward/block_runner.h"
#include "calque/forward/cost.h"
#include "calque/job/check_job.h"
#include "calque/job/passes.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/quant/methods.h"
#include "calque/quant/upstream.h"
#include "calque/text/tokenizer.h"

namespace calque::forecast {
namespace {

constexpr Bytes kMiB = Bytes{1} << 20;

// Bytes of the program with its libraries, tokenizer and tables; if a model runs, also oneDNN's
// generated code and memory that allocators retain, kept arrays among it (core/kept_arrays.h).
// Estimates: with them the demo job's stages come within 5 % of the measured values.
constexpr Bytes kProgram = 40 * kMiB;
constexpr Bytes kRunning = 40 * kMiB;

// Bytes a token: while a tokenizer.json is read, of the tokenizer of text, and of the vocabulary
// that an export stores. Measured with 131,072 and 262,144 tokens and as many merges: 376 and 444,
// 144, 240 and 280.
constexpr Bytes kTokenBeingRead = 420;
constexpr Bytes kTokenOfText = 144;
constexpr Bytes kTokenStored = 270;

// A folder's tokenizer is made anew for a GGUF file, and a GGUF file's for a folder.
bool stores_vocabulary(const job::Job& job, const formats::ExportPlan& plan) {
  return format_of(plan.request).is_folder != std::filesystem::is_directory(job.model.path);
}

Bytes bytes_a_token(const job::Job& job, const std::vector<formats::ExportPlan>& plans) {
  if (!text::has_tokenizer(job.model.path)) return 0;
  const bool stored = std::any_of(plans.begin(), plans.end(),
                                  [&](const auto& plan) { return stores_vocabulary(job, plan); });
  return (job::reads_text(job) ? kTokenOfText : 0) + (stored ? kTokenStored : 0);
}

// One K x K matrix in fp32, and its description.
Bytes gram(const model::SiteSpec& site) { return 4 * bytes_of(site.features() * site.features()); }
std::string square(const char* what, const model::BlockSpec& block, const model::SiteSpec& site) {
  return fmt::format("{} of {} {}, {} x {}", what, block.name, site.name, site.features(),
                     site.features());
}

// Widest input kept for all rows. Outputs of norms are not kept: they are recomputed in chunks.
Index widest_kept(const model::BlockSpec& block) {
  Index width = 0;
  for (const model::SiteSpec& site : block.sites)
    if (!site.from_norm) width = std::max(width, site.features());
  return width;
}

Bytes row_bytes(const JobShapes& shapes, const model::SiteSpec& site) {
  return bytes_of(site.features()) * shapes.compute_bytes;
}

// Activations: hidden states and kept rows (also the original's), the sums of halves side by side,
// the original's inputs at its sites, and the data that the block keeps between its stages,
// `kept_width` channels.
std::vector<Bytes> activations_of(const JobShapes& shapes, const model::BlockSpec& block,
                                  Index kept_width) {
  if (!shapes.runs) return {};
  const Bytes tokens = shapes.calibration_tokens();
  const Bytes states = tokens * shapes.state_bytes();
  std::vector<Bytes> arrays = {states};
  const bool side_by_side = std::any_of(block.halves.begin(), block.halves.end(),
                                        [](const auto& half) { return half.beside; });
  if (side_by_side) arrays.push_back(tokens * shapes.hidden_bytes());
  if (shapes.upstream) {
    arrays.push_back(states);
    for (const model::SiteSpec& site : block.sites)
      if (site.rows_of.empty())
        arrays.push_back(
            static_cast<Bytes>(forward::tokens_at(block, site, static_cast<double>(tokens))) *
            row_bytes(shapes, site));
  }
  if (kept_width > 0) arrays.push_back(tokens * bytes_of(kept_width) * shapes.compute_bytes);
  return arrays;
}

std::vector<Bytes> activations_at(const JobShapes& shapes, const model::BlockSpec& block,
                                  const model::SiteSpec& site) {
  return activations_of(shapes, block, site.from_norm ? 0 : site.features());
}

// The program, a block's weights, and the prepared weights of the forward pass when it reaches
// `site` (null: all of them).
Peak with_block(const JobShapes& shapes, const model::BlockSpec& block,
                const model::SiteSpec* site) {
  Peak peak = program(shapes, shapes.runs);
  add_weights(block, shapes.block_weights[static_cast<std::size_t>(block.layer)], peak);
  add_prepared(block, shapes.compute_bytes, site, peak);
  return peak;
}

// Adds the statistics of the block's other sites, which are kept until the block has run.
void add_kept_grams(const JobShapes& shapes, const model::BlockSpec& block,
                    const model::SiteSpec& but, Peak& to) {
  Bytes total = 0;
  if (shapes.runs && !shapes.job.quantization.propagate_error)
    for (const model::SiteSpec& site : block.sites)
      if (&site != &but) total += gram(site);
  to.add("Gram matrices of the block's other sites", total);
}

// ---- forward and statistics: pipeline/pass.cpp, forward/cpu/block_pass.cpp, calib/collect.cpp

// Number of rows of `row_bytes` each that an observer receives at a time.
Bytes observed_rows(const JobShapes& shapes, Bytes row_bytes) {
  return std::min(bytes_of(forward::observed_rows(static_cast<Index>(row_bytes))),
                  shapes.calibration_tokens());
}

// The largest tensors that are read concurrently, as stored in the file.
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

Peak loading(const JobShapes& shapes, const model::BlockSpec& block) {
  Peak peak = with_block(shapes, block, &block.sites.front());
  peak.add("tensors being read", being_read(shapes, block));
  return peak.activations(activations_of(shapes, block, 0));
}

Peak running(const JobShapes& shapes, const model::BlockSpec& block) {
  Peak peak = with_block(shapes, block, nullptr);
  peak.add(
      fmt::format("sequences being computed, {} at a time", shapes.threads),
      shapes.threads * forward::sequence_bytes(shapes.family, shapes.job.calibration.packing.seqlen,
                                               shapes.compute_bytes, true));
  return peak.activations(activations_of(shapes, block, widest_kept(block)));
}

// The peak while a site's inputs are added to its statistics.
Peak looking(const JobShapes& shapes, const model::BlockSpec& block, const model::SiteSpec& site) {
  Peak peak = with_block(shapes, block, &site);
  peak.add(square("Gram matrix", block, site), gram(site));
  add_kept_grams(shapes, block, site, peak);
  if (shapes.upstream) peak.add(square("shift", block, site), gram(site));
  const Bytes row = row_bytes(shapes, site);
  if (site.from_norm) peak.add("rows being normed", row * observed_rows(shapes, row));
  return peak.activations(activations_at(shapes, block, site));
}

bool is_looked_at_twice(const JobShapes& shapes, const model::SiteSpec& site) {
  return shapes.calibration_tokens() > observed_rows(shapes, row_bytes(shapes, site));
}

// The peak of the forward pass between two such calls: the next rows are normed while rows of an
// unfinished block of sums wait.
Peak between_looks(const JobShapes& shapes, const model::BlockSpec& block,
                   const model::SiteSpec& site) {
  Peak peak = looking(shapes, block, site);
  if (observed_rows(shapes, row_bytes(shapes, site)) % bytes_of(kGramRows) != 0)
    peak.add("rows that wait to be summed",
             calib::waiting_bytes(site.features(), shapes.compute_bytes));
  return peak;
}

Peak summing(const JobShapes& shapes, const model::BlockSpec& block, const model::SiteSpec& site) {
  const Index channels = site.features();
  Peak peak = looking(shapes, block, site);
  peak.add("rows being summed", calib::waiting_bytes(channels, shapes.compute_bytes) +
                                    gram_scratch_bytes(channels, shapes.compute_bytes == 2));
  if (shapes.upstream) peak.add("rows being compared", calib::comparison_bytes(channels));
  return peak;
}

Peak embedding(const JobShapes& shapes) {
  const Bytes tokens = shapes.calibration_tokens();
  Peak peak = program(shapes, true);
  peak.add("rows of the embedding in fp32",
           std::min(bytes_of(shapes.family.config.vocab_size), tokens) * shapes.hidden_bytes());
  peak.add("embeddings of layers being made",
           forward::layer_embedding_bytes(shapes.family, shapes.job.calibration.packing.seqlen));
  return peak.activations({tokens * shapes.state_bytes()});
}

// ---- quantize: pipeline/site.cpp, quant/

// True if GGUF blocks are rounded in strips of rows, which needs no calibration text.
bool goes_by_rows(const JobShapes& shapes, const formats::ExportPlan& plan) {
  return !shapes.runs &&
         std::all_of(plan.tensors.begin(), plan.tensors.end(),
                     [](const auto& tensor) { return !tensor.grid || tensor.grid->block; });
}

Peak factoring(const JobShapes& shapes, const model::SiteSpec& site, Peak peak) {
  peak.add("the factorisation, in double", inverse_cholesky_scratch_bytes(site.features()));
  if (!shapes.upstream) return peak;
  peak.add("the shift of its inputs, which becomes the correction", gram(site));
  return peak.add("rows being multiplied", quant::upstream_scratch_bytes(site.features()));
}

Peak rounding(const JobShapes& shapes, const formats::TensorPlan& planned, Peak peak) {
  const job::QuantizationSettings& settings = shapes.job.quantization;
  return peak.add(
      fmt::format("{} while it is rounded", planned.tensor.name),
      settings.rounding->scratch_bytes(
          settings.rounding_options(), {.grid = *planned.grid, .calibrated = shapes.runs},
          planned.tensor.shape[0], planned.tensor.shape[1], shapes.threads));
}

Peak writing(const formats::TensorPlan& planned, Peak peak) {
  const Bytes codes = planned.grid->block ? planned.bytes : elements(planned.tensor);
  return peak.add(fmt::format("codes of {} on their way to the file", planned.tensor.name),
                  codes + 2 * planned.bytes);
}

void show_site(const JobShapes& shapes, const formats::ExportPlan& plan,
               const model::BlockSpec& block, const model::SiteSpec& site, LargestPeak& largest) {
  const bool factored = shapes.runs && shapes.job.quantization.rounding->feeds_back;
  Peak start = with_block(shapes, block, shapes.runs ? &site : &block.sites.front());
  if (shapes.runs) start.add(square("Hessian", block, site), gram(site));
  if (factored) start.add(square("factor", block, site), gram(site));
  add_kept_grams(shapes, block, site, start);
  start.activations(activations_at(shapes, block, site));
  if (factored) largest.keep(factoring(shapes, site, start));
  for (const model::LinearSpec& linear : site.readers) {
    const formats::TensorPlan& planned = plan.at(linear.weight.name);
    if (!planned.grid) continue;
    largest.keep(rounding(shapes, planned, start));
    largest.keep(writing(planned, start));
  }
}

// ---- The head, after the last block: pipeline/pass.cpp, SiteRounding::round_head

// All activations are still there while its inputs are summed, and none while it is rounded.
Peak summing_head(const JobShapes& shapes, const model::BlockSpec& head) {
  const model::SiteSpec& site = head.sites.front();
  const Bytes tokens = shapes.calibration_tokens(), hidden = tokens * shapes.state_bytes();
  Peak peak = program(shapes, true);
  peak.add(square("Gram matrix", head, site), gram(site));
  peak.add("rows being summed",
           calib::waiting_bytes(site.features(), 4) + gram_scratch_bytes(site.features(), false));
  std::vector<Bytes> activations = {hidden};
  if (shapes.upstream) {
    peak.add(square("shift", head, site), gram(site));
    peak.add("rows being compared", calib::comparison_bytes(site.features()));
    activations.insert(activations.end(), {hidden, hidden});
  }
  return peak.activations(std::move(activations));
}

void show_head(const JobShapes& shapes, const formats::ExportPlan& plan,
               const model::BlockSpec& head, LargestPeak& largest) {
  const model::SiteSpec& site = head.sites.front();
  const formats::TensorPlan& planned = plan.at(site.readers.front().weight.name);
  Peak peak = program(shapes, true);
  peak.add(square("Hessian", head, site), gram(site));
  if (shapes.job.quantization.rounding->feeds_back) {
    peak.add(square("factor", head, site), gram(site));
    largest.keep(factoring(shapes, site, peak));
  }
  if (planned.grid->block) {
    formats::TensorPlan strip = planned;
    strip.tensor.shape[0] = std::min(strip.tensor.shape[0],
                                     std::max<Index>(1, quant::kRowStripWeights / site.features()));
    peak.add(planned.tensor.name + " in strips", quant::kRowStripBytes);
    return largest.keep(rounding(shapes, strip, peak));
  }
  peak.add(planned.tensor.name + " in fp32", 4 * elements(planned.tensor));
  largest.keep(rounding(shapes, planned, peak));
  largest.keep(writing(planned, peak));
}

// ---- write: tensors outside the blocks, and the writers' finish(). No activations are left.

Peak writing_outside(const JobShapes& shapes, const formats::ExportPlan& plan,
                     const formats::TensorPlan& planned) {
  Peak peak = program(shapes, shapes.runs);
  const std::string& name = planned.tensor.name;
  if (shapes.measures_head(plan) && name == shapes.family.head().name) return peak;
  const Bytes count = elements(planned.tensor), source = shapes.source_bytes * count;
  if (planned.grid && planned.grid->block)
    return peak.add(name + " in strips", quant::kRowStripBytes);
  if (planned.grid)
    return peak.add(name + " in fp32, its codes and what is written",
                    4 * count + count + planned.bytes);
  if (!format_of(plan.request).is_folder) {
    if (!shapes.job.model.allow_requantize)
      return peak.add(name + " in strips", quant::kRowStripBytes);
    return peak.add(name + " as stored, twice", source + planned.bytes);  // decoded whole
  }
  return peak.add(name + " as stored", source);
}

}  // namespace

JobShapes::JobShapes(const job::Job& the_job, const model::FamilySpec& the_family,
                     const std::vector<formats::ExportPlan>& the_plans)
    : job(the_job), family(the_family), plans(the_plans) {
  runs =
      job.calibration.given() && std::any_of(plans.begin(), plans.end(), job::quantizes_a_linear);
  for (const formats::ExportPlan& plan : plans)
    upstream = upstream || (runs && job::upstream_correction_for(job, plan) > 0);
  threads = static_cast<Bytes>(usable_threads(job.runtime.threads));
  if (forward::compute_dtype_from(job.runtime.forward_dtype) == forward::ComputeDType::kBFloat16)
    compute_bytes = 2;
  source_bytes = family.config.dtype == "float32" ? 4 : 2;
  for (const model::BlockSpec& block : family.blocks) block_weights.push_back(weights_of(block));
  tokenizer_bytes = bytes_a_token(job, plans) * bytes_of(family.config.vocab_size);
}

bool JobShapes::measures_head(const formats::ExportPlan& plan) const {
  return runs && !family.lm_head.empty() && plan.at(family.head().name).grid;
}

Bytes JobShapes::calibration_tokens() const {
  return bytes_of(job.calibration.packing.n_samples * job.calibration.packing.seqlen);
}

Bytes JobShapes::hidden_bytes() const { return 4 * bytes_of(family.config.hidden_size); }

Bytes JobShapes::state_bytes() const {
  return hidden_bytes() + 4 * bytes_of(forward::kept_channels(family));
}

Bytes elements(const model::TensorSpec& tensor) {
  Bytes count = 1;
  for (const Index n : tensor.shape) count *= bytes_of(n);
  return count;
}

Bytes weights_of(const model::BlockSpec& block) {
  Bytes total = 0;
  for (const model::TensorSpec& tensor : block.tensors()) total += elements(tensor);
  return total;
}

Peak program(const JobShapes& shapes, bool runs) {
  Peak peak;
  peak.add("the program and its libraries", kProgram + (runs ? kRunning : 0));
  return peak.add("the tokenizer", shapes.tokenizer_bytes);
}

Bytes opening_bytes(const JobShapes& shapes) {
  if (shapes.tokenizer_bytes == 0) return 0;
  return kProgram + kTokenBeingRead * bytes_of(shapes.family.config.vocab_size);
}

void add_weights(const model::BlockSpec& block, Bytes weights, Peak& to) {
  to.add(fmt::format("weights of {} in fp32", block.name), 4 * weights);
}

void add_prepared(const model::BlockSpec& block, Bytes compute_bytes, const model::SiteSpec* until,
                  Peak& to) {
  to.add("its linears in bfloat16", forward::prepared_bytes(block, compute_bytes, until));
}

// Rows in files are released as soon as an observer has seen them, sequences once they have gone
// through half a block.
Bytes rows_being_read(const JobShapes& shapes) {
  if (!shapes.runs) return 0;
  const Bytes length = bytes_of(shapes.job.calibration.packing.seqlen);
  Bytes most = 0;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    const Bytes kept = bytes_of(widest_kept(block)) * shapes.compute_bytes;
    most = std::max(most, shapes.threads * length * (shapes.hidden_bytes() + kept));
    for (const model::SiteSpec& site : block.sites) {
      const Bytes row = site.from_norm ? shapes.hidden_bytes() : row_bytes(shapes, site);
      most = std::max(most, (shapes.upstream ? 2 : 1) * row * observed_rows(shapes, row));
    }
  }
  return most;
}

std::optional<StageMemory> forward_memory(const JobShapes& shapes) {
  if (!shapes.runs) return std::nullopt;
  LargestPeak largest;
  for (const model::BlockSpec& block : shapes.family.blocks) {
    largest.keep(loading(shapes, block));
    largest.keep(running(shapes, block));
    for (const model::SiteSpec& site : block.sites)
      if (is_looked_at_twice(shapes, site)) largest.keep(between_looks(shapes, block, site));
  }
  largest.keep(embedding(shapes));
  return std::move(largest).as("forward");
}

std::optional<StageMemory> statistics_memory(const JobShapes& shapes) {
  if (!shapes.runs) return std::nullopt;
  LargestPeak largest;
  for (const model::BlockSpec& block : shapes.family.blocks)
    for (const model::SiteSpec& site : block.sites) largest.keep(summing(shapes, block, site));
  if (std::any_of(shapes.plans.begin(), shapes.plans.end(),
                  [&](const auto& plan) { return shapes.measures_head(plan); }))
    largest.keep(summing_head(shapes, *shapes.family.head_block()));
  return std::move(largest).as("statistics");
}

std::optional<StageMemory> quantize_memory(const JobShapes& shapes) {
  LargestPeak largest;
  for (const formats::ExportPlan& plan : shapes.plans) {
    if (goes_by_rows(shapes, plan)) {
      largest.keep(program(shapes, false).add("strips of matrices", quant::kRowStripBytes));
      continue;
    }
    for (const model::BlockSpec& block : shapes.family.blocks)
      for (const model::SiteSpec& site : block.sites) show_site(shapes, plan, block, site, largest);
    if (shapes.measures_head(plan)) show_head(shapes, plan, *shapes.family.head_block(), largest);
  }
  return std::move(largest).as("quantize");
}

// The quantize stage of fewer rows without the original beside them, a second copy of the block's
// weights, matrices outside the blocks in fp32, and the trials' states.
std::optional<StageMemory> allocate_memory(const JobShapes& shapes,
                                           const AllocationShape& allocation) {
  job::Job job = shapes.job;
  job.calibration.packing.n_samples = allocation.samples;
  job.quantization.upstream_correction = 0;
  const JobShapes smaller(job, shapes.family, shapes.plans);
  std::optional<StageMemory> memory = quantize_memory(smaller);
  if (!memory) return std::nullopt;
  memory->stage = "allocate";
  const auto add = [&memory](const char* what, Bytes bytes) {
    if (bytes > 0) memory->items.push_back({what, bytes});
    memory->bytes += bytes;
  };
  add("matrices outside the blocks in fp32", 4 * allocation.outside_weights);
  if (allocation.windows == 0) return memory;
  add("a block's weights with the smallest option",
      4 * *std::max_element(shapes.block_weights.begin(), shapes.block_weights.end()));
  const Bytes states =
      bytes_of(allocation.windows * job.calibration.packing.seqlen) * shapes.state_bytes();
  const Bytes limit = job.runtime.max_ram > 0 ? UINT64_MAX : kTrialBytes;
  for (Index trial = 0; trial <= allocation.parts && bytes_of(trial) * states < limit; ++trial)
    memory->activations.push_back(states);
  return memory;
}

std::optional<StageMemory> write_memory(const JobShapes& shapes) {
  LargestPeak largest;
  for (const formats::ExportPlan& plan : shapes.plans)
    for (const formats::TensorPlan& planned : plan.tensors)
      if (!planned.in_block_linear) largest.keep(writing_outside(shapes, plan, planned));
  return std::move(largest).as("write");
}

}  // namespace calque::forecast
