#include "pipeline/pass_saving.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "calque/io/state_file.h"
#include "resume/run_state.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {
namespace {

Index width_of(const Pass& pass) { return pass.source.family.embedding.shape[1]; }

std::uint64_t bytes_of(const Pass& pass, const Streams& streams) {
  if (!streams.hidden) return 0;
  const auto values = static_cast<std::uint64_t>(pass.calibration->token_count() * width_of(pass));
  return values * sizeof(float) * (streams.reference ? 2 : 1);
}

// Of the tensors that the writers were given since the last time.
std::uint64_t bytes_given_since(const Pass& pass, const resume::RoundingState& before,
                                const resume::RoundingState& now) {
  std::uint64_t bytes = 0;
  for (std::size_t i = before.given.size(); i < now.given.size(); ++i)
    bytes += pass.plan.at(now.given[i]).bytes;
  return bytes * pass.writers.size();
}

// "": nothing goes on from block to block.
std::string write_streams(const Pass& pass, const Streams& streams, Index blocks) {
  if (!streams.hidden && pass.recorder == nullptr) return "";
  const std::string name = fmt::format("pass-{}-blocks-{}.bin", pass.number, blocks);
  io::StateFileWriter file(pass.state->folder() / name);
  const io::ByteSink sink = [&](std::span<const std::byte> bytes) { file.write(bytes); };
  if (streams.hidden) pass.runner->save_states(*streams.hidden, sink);
  if (streams.reference) streams.reference->save(sink);
  if (pass.recorder != nullptr) pass.recorder->save(sink);
  file.commit();
  return name;
}

void save(const Pass& pass, const SiteRounding& rounding, const Streams& streams, Index blocks,
          bool complete) {
  const TimedScope timed(pass.stages.write);
  const Stopwatch watch;
  const std::uint64_t bytes =
      bytes_of(pass, streams) +
      bytes_given_since(pass, pass.state->pass(pass.number).rounding, rounding.state());
  resume::PassProgress now{.blocks = blocks, .complete = complete, .rounding = rounding.state()};
  now.streams = write_streams(pass, streams, complete ? -1 : blocks);
  for (const auto& writer : pass.writers) now.notes.push_back(writer->keep());
  pass.state->save(pass.number, std::move(now), bytes, watch.seconds());
}

void read_streams(const Pass& pass, const resume::PassProgress& before, Streams& streams) {
  io::StateFileReader file(pass.state->folder() / before.streams);
  const io::ByteSource source = [&](std::span<std::byte> bytes) { file.read(bytes); };
  if (pass.runner != nullptr && !before.complete) {
    streams.hidden = pass.runner->load_states(pass.calibration->lengths_B, width_of(pass), source);
    if (pass.upstream_correction > 0) streams.reference.emplace(pass, source);
  }
  if (pass.recorder != nullptr) pass.recorder->load(source);
  file.finish();
}

}  // namespace

// A module of a block is named after its linear, others after their tensor.
std::vector<record::ModuleReport> with_grids(std::vector<record::ModuleReport> modules,
                                     const model::FamilySpec& family,
                                     const formats::ExportPlan& plan) {
  std::map<std::string, std::string> tensors;
  for (const model::LinearSpec& linear : family.linears())
    tensors[linear.name] = linear.weight.name;
  for (record::ModuleReport& module : modules) {
    const auto found = tensors.find(module.module);
    const bool in_block = module.block >= 0 && found != tensors.end();
    module.grid = *plan.at(in_block ? found->second : module.module).grid;
  }
  return modules;
}

ResumedPass resume_pass(const Pass& pass, SiteRounding& rounding, Streams& streams) {
  if (pass.state == nullptr) return {};
  const resume::PassProgress& before = pass.state->pass(pass.number);
  if (before.blocks == 0) return {};
  const TimedScope timed(pass.stages.load);
  resume::RoundingState state = before.rounding;
  state.modules = with_grids(std::move(state.modules), pass.source.family, pass.plan);
  rounding.restore(std::move(state));
  if (!before.streams.empty()) read_streams(pass, before, streams);
  return {before.blocks, before.complete};
}

void save_if_due(const Pass& pass, const SiteRounding& rounding, const Streams& streams,
                 Index blocks) {
  if (pass.state == nullptr) return;
  const std::uint64_t bytes =
      bytes_of(pass, streams) +
      bytes_given_since(pass, pass.state->pass(pass.number).rounding, rounding.state());
  if (pass.state->is_due(bytes)) save(pass, rounding, streams, blocks, false);
}

void save_complete(const Pass& pass, const SiteRounding& rounding) {
  if (pass.state == nullptr || !pass.state->saves()) return;
  const auto blocks = static_cast<Index>(pass.source.family.blocks.size());
  save(pass, rounding, {}, blocks, true);
}

}  // namespace calque::pipeline
