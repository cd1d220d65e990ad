// Compares the time of whole jobs with the time that their arithmetic needs at least (README.md).
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/forecast/work.h"
#include "calque/formats/source.h"
#include "calque/model/family.h"
#include "calque/pipeline/quantize_model.h"
#include "measure.h"

namespace calque::bench {
namespace {

using TokensOfModule = std::map<std::string, double>;

TokensOfModule tokens_of_modules(const record::Report& report) {
  TokensOfModule tokens;
  for (const record::ModuleReport& module : report.artifacts.front().modules)
    tokens[module.module] = static_cast<double>(module.tokens);
  return tokens;
}

using forecast::Work;
using forecast::WorkKind;

// Counted as predictions are (forecast/work.h), with the tokens that each site really saw.
Work count(const model::FamilySpec& family, const job::Job& job, const formats::ExportPlan& plan,
           const TokensOfModule& tokens) {
  Work work;
  const auto length = static_cast<double>(job.calibration.packing.seqlen);
  for (const model::BlockSpec& block : family.blocks) {
    for (const model::SiteSpec& site : block.sites)
      if (!site.readers.empty())
        work += forecast::site_work(job, plan, site, tokens.at(site.readers.front().name));
    const double sequences = tokens.at(block.sites.front().readers.front().name) / length;
    for (const model::HalfSpec& half : block.halves)
      work[WorkKind::kAttention] += half.mixer->cost(sequences, length).flops;
  }
  return work;
}

// Rates of plain products on all of the job's threads, in operations per second.
struct Rates {
  double float32 = 0;
  double bfloat16 = 0;
};

Rates measure(int threads, Rates best) {
  constexpr int kRepetitions = 5;
  const auto rate = [threads](Precision precision) {
    const PlainProduct product(precision, 2048, threads);
    product.run();
    Seconds seconds;
    for (int i = 0; i < kRepetitions; ++i)
      seconds = best_of(seconds, time_once(threads, [&] { product.run(); }));
    return product.operations() / seconds.wall;
  };
  return {std::max(best.float32, rate(Precision::kFloat32)),
          std::max(best.bfloat16, rate(Precision::kBFloat16))};
}

struct Row {
  std::string stage, what;
  double operations = 0;
  double bound = 0;     // seconds at the plain product's rate
  double measured = 0;  // 0: not measured by itself
};

std::vector<Row> table(const Work& work, const Rates& rates, const record::Report& report) {
  const bool bf16 = report.forward_dtype == "bfloat16";
  const double wide = rates.float32;
  const double narrow = bf16 ? rates.bfloat16 : rates.float32;
  const record::StageSeconds& stages = report.stages;
  const auto row = [](std::string stage, std::string what, double operations, double rate) {
    return Row{std::move(stage), std::move(what), operations, operations / rate, 0};
  };
  const Row linears = row("", "linears", work[WorkKind::kLinears], narrow);
  const Row attention = row("", "attention", work[WorkKind::kAttention], narrow);
  const Row gram = row("", "Gram matrices", work[WorkKind::kGram], narrow);
  const Row factorisation =
      row("", "factorisation",
          work[WorkKind::kFactorisation] + work[WorkKind::kDoubleFactorisation], wide);
  const Row sweep = row("", "GPTQ sweep", work[WorkKind::kSweep], wide);
  const Row refinement = row("", "refinement", work[WorkKind::kRefinement], wide);
  const auto stage = [](std::string name, const std::vector<Row>& parts, double measured) {
    Row total{std::move(name), "", 0, 0, measured};
    for (const Row& part : parts) {
      total.operations += part.operations;
      total.bound += part.bound;
    }
    return total;
  };
  Row target = stage("job", {linears, attention, gram, sweep}, report.seconds - stages.evaluate);
  target.what = "against forward, Gram and sweep";
  return {stage("forward", {linears, attention}, stages.forward),
          linears,
          attention,
          stage("statistics", {gram}, stages.statistics),
          stage("quantize", {factorisation, sweep, refinement}, stages.quantize),
          factorisation,
          sweep,
          refinement,
          {"tokenize, load, write", "", 0, 0, stages.tokenize + stages.load + stages.write},
          target};
}

std::string cell(double value, const char* format) {
  return value == 0 ? "" : fmt::format(fmt::runtime(format), value);
}

std::string ratio(const Row& row) {
  return row.bound == 0 || row.measured == 0 ? "" : fmt::format("{:.2f}", row.measured / row.bound);
}

void print(const std::vector<Row>& rows, const Rates& rates, const record::Report& report) {
  fmt::print("{} forward pass; plain products: float32 {:.0f}, bfloat16 {:.0f} GFLOP/s\n\n",
             report.forward_dtype, rates.float32 / 1e9, rates.bfloat16 / 1e9);
  fmt::print(
      "| stage | of it | GFLOP | bound, s | measured, s | ratio |\n|---|---|---|---|---|---|\n");
  for (const Row& row : rows)
    fmt::print("| {} | {} | {} | {} | {} | {} |\n", row.stage, row.what,
               cell(row.operations / 1e9, "{:.0f}"), cell(row.bound, "{:.2f}"),
               cell(row.measured, "{:.2f}"), ratio(row));
}

void write_csv(const std::vector<Row>& rows, const std::string& file) {
  std::ofstream out(file);
  out << "stage,part,operations,bound_seconds,measured_seconds\n";
  for (const Row& row : rows)
    fmt::print(out, "\"{}\",\"{}\",{:.6g},{:.6g},{:.6g}\n", row.stage, row.what, row.operations,
               row.bound, row.measured);
}

void run(const std::string& job_file, const std::string& csv,
         const std::vector<std::string>& overrides) {
  const job::Job job = config::load_job(job_file, overrides);
  const int threads = job.runtime.threads > 0 ? job.runtime.threads : available_threads();
  const Rates before = measure(threads, {});
  record::Observer quiet;
  const record::Report report = pipeline::quantize_model(job, quiet);
  const Rates rates = measure(threads, before);
  const formats::OpenedModel source = formats::open_model(job.model.path);
  const Work work = count(model::family_of(source.config), job, report.artifacts.front().plan,
                          tokens_of_modules(report));
  const std::vector<Row> rows = table(work, rates, report);
  print(rows, rates, report);
  write_csv(rows, csv);
}

}  // namespace
}  // namespace calque::bench

// calque_roofline JOB.yaml OUT.csv [KEY=VALUE ...], as `calque run --set`.
int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: calque_roofline JOB.yaml OUT.csv [KEY=VALUE ...]\n";
    return 1;
  }
  try {
    calque::bench::run(argv[1], argv[2], {argv + 3, argv + argc});
  } catch (const calque::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
