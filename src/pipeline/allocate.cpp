#include "pipeline/allocate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/quote.h"
#include "calque/core/stopwatch.h"
#include "calque/core/units.h"
#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/job/passes.h"
#include "pipeline/sensitivity.h"

namespace calque::pipeline {
namespace {

using Costs = std::vector<std::vector<double>>;
using Sensitivity = job::AllocationSettings::Sensitivity;

text::TokenBlocks rows_of(const text::TokenBlocks& all, Index first, Index count) {
  text::TokenBlocks some;
  some.ids_BS = Matrix<std::int32_t>::copy_of(all.ids_BS.view().rows(first, count));
  some.lengths_B.assign(all.lengths_B.begin() + first, all.lengths_B.begin() + first + count);
  return some;
}

std::filesystem::path record_file(const job::Job& job) {
  return job.run_dir.empty() ? std::filesystem::path() : job.run_dir / "allocation.json";
}

class Allocating {
 public:
  Allocating(const job::Job& job, record::Observer& observer, const OpenOptions& options)
      : settings_(job.quantization.allocation),
        job_(job),
        opened_(open_job(job, options)),
        observer_(observer) {}

  AllocatedJob run() {
    read_tokens();
    Costs cost_PO = kept_costs();
    if (cost_PO.empty()) cost_PO = measured();
    const std::vector<std::size_t> option_P = job::choose_options(sizes(), cost_PO);
    AllocatedJob result{.job = job::with_choice(job_, sizes(), option_P),
                        .allocation = described(cost_PO, option_P),
                        .stages = stages_,
                        .shape = allocation_shape(job_, sizes())};
    if (const auto file = record_file(job_); !file.empty()) {
      io::Json json = record::json_of(result.allocation);
      json["made_from"] = made_from();
      std::filesystem::create_directories(file.parent_path());
      io::write_file(file, json.dump(1) + "\n");
    }
    observer_.note(summary(result.allocation));
    return result;
  }

 private:
  const job::SizeProblem& sizes() const { return *opened_.sizes; }
  bool measures() const { return settings_.sensitivity == Sensitivity::kMeasured; }

  void read_tokens() {
    const TimedScope timed(stages_.tokenize);
    text::PackedTokens packed =
        opened_.tokens.calibration(job_.calibration, opened_.source.family.config.vocab_size);
    const Index all = packed.blocks.rows();
    const Index samples = std::min<Index>(settings_.samples, all);
    const Index windows = measures() ? std::min<Index>(settings_.windows, all) : 0;
    rows_ = rows_of(packed.blocks, 0, samples);
    windows_ = rows_of(packed.blocks, all - windows, windows);
    tokens_sha256_ = packed.manifest.tokens_sha256;
  }

  Costs measured() {
    const job::RuntimeSettings& runtime = job_.runtime;
    const std::uint64_t limit = opened_.memory.activation_budget_bytes;
    const auto& folder = runtime.offload_dir.empty() ? job_.run_dir : runtime.offload_dir;
    return measure_sensitivities({.opened = opened_,
                                  .problem = sizes(),
                                  .calibration = rows_,
                                  .windows = windows_,
                                  .scratch = std::make_shared<io::ScratchSpace>(
                                      limit > 0 ? limit : forecast::kTrialBytes, folder),
                                  .observer = observer_,
                                  .stages = stages_});
  }

  // Everything that the costs depend on.
  std::string made_from() const {
    const job::QuantizationSettings& q = job_.quantization;
    const quant::RoundingOptions o = sensitivity_options(q);
    std::string text = fmt::format(
        "model {}tokens {} rows {} windows {} rounding {} rule {} order {} damp {} {} refine {} {} "
        "{} "
        "correction {}",
        io::stamp_of(job_.model.path), tokens_sha256_, rows_.rows(), windows_.rows(),
        q.rounding->name, static_cast<int>(o.scale_rule), o.act_order, o.damp_percent,
        o.damp_auto_increment, o.refine_passes, o.rounds, q.plain_options().refine_passes,
        job::upstream_correction_for(job_, sizes().plans_O.front()));
    for (const formats::ExportPlan& plan : sizes().plans_O)
      for (const job::SizedPart& part : sizes().parts)
        text += ' ' + plan.at(part.weights.front()).stored_as;
    return text;
  }

  // Those of an earlier run in this folder; empty: there are none, or of something else.
  Costs kept_costs() const {
    const std::filesystem::path file = record_file(job_);
    if (file.empty() || !std::filesystem::exists(file)) return {};
    try {
      const io::Json json = io::parse_json(io::read_file(file));
      if (json.at("made_from").string() != made_from()) return {};
      Costs cost_PO;
      for (const record::AllocatedPart& part : record::allocation_from(json).parts)
        cost_PO.push_back(part.cost_O);
      const bool fits = cost_PO.size() == sizes().parts.size();
      if (fits) observer_.note("costs of the options are those of " + file.filename().string());
      return fits ? cost_PO : Costs();
    } catch (const Error&) {
      return {};  // damaged, or another version's
    }
  }

  record::Allocation described(const Costs& cost_PO,
                               const std::vector<std::size_t>& option_P) const {
    record::Allocation allocation{.options = sizes().options,
                                  .measured = measures(),
                                  .budget_bytes = sizes().budget_bytes,
                                  .fixed_bytes = sizes().fixed_bytes,
                                  .parts = {},
                                  .rules = rule_lines(option_P)};
    for (std::size_t p = 0; p < cost_PO.size(); ++p)
      allocation.parts.push_back({.name = sizes().parts[p].name,
                                  .block = sizes().parts[p].block,
                                  .bytes_O = sizes().parts[p].bytes_O,
                                  .cost_O = cost_PO[p],
                                  .chosen = option_P[p]});
    return allocation;
  }

  // As they would be written in a job file.
  std::vector<std::string> rule_lines(const std::vector<std::size_t>& option_P) const {
    std::vector<std::string> lines;
    if (format_of(job_.exports.front()).has_block_types)
      for (const formats::TensorTypeRule& rule : job::type_rules(sizes(), option_P))
        lines.push_back(
            fmt::format("- {{match: {}, type: {}}}", yaml_quoted(rule.match), rule.type));
    else
      for (const formats::ModuleRule& rule : job::module_rules(sizes(), option_P))
        lines.push_back(
            fmt::format("- {{match: {}, bits: {}}}", yaml_quoted(rule.match), *rule.bits));
    return lines;
  }

  // "target size: of 42 parts 10 get 2, 20 get 3, 12 get 4; ..."
  std::string summary(const record::Allocation& allocation) const {
    std::vector<std::string> counts;
    for (std::size_t o = 0; o < allocation.options.size(); ++o)
      if (const auto count =
              std::ranges::count(allocation.parts, o, &record::AllocatedPart::chosen))
        counts.push_back(fmt::format("{} get {}", count, allocation.options[o]));
    return fmt::format(
        "target size: of {} parts {}; {} of tensors{}", allocation.parts.size(),
        fmt::join(counts, ", "), decimal_bytes_text(allocation.bytes()),
        allocation.measured ? fmt::format(", predicted divergence {:.4g}", allocation.cost()) : "");
  }

  const job::AllocationSettings settings_;
  const job::Job& job_;
  OpenedJob opened_;
  record::Observer& observer_;
  record::StageSeconds stages_;
  text::TokenBlocks rows_;
  text::TokenBlocks windows_;
  std::string tokens_sha256_;
};

}  // namespace

AllocatedJob allocate(const job::Job& job, record::Observer& observer, MemoryMeter& memory,
                      const OpenOptions& options) {
  const MemoryMeter::Scope scope(memory, "allocate");
  return Allocating(job, observer, options).run();
}

}  // namespace calque::pipeline
