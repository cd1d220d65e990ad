#include <fmt/format.h>

#include <algorithm>

#include "calque/core/units.h"
#include "report/pages.h"
#include "report/scale.h"
#include "report/sections.h"

namespace calque::report {
namespace {

std::string share_text(const Run& run, const record::ArtifactReport& artifact) {
  std::string text = fmt::format("{:.2f} bits/weight", artifact.bits_per_weight);
  if (run.source_bytes > 0)
    text += fmt::format(", {:.0f} % of the original",
                        100.0 * static_cast<double>(artifact.plan.tensor_bytes) /
                            static_cast<double>(run.source_bytes));
  return text;
}

const record::DivergenceResult* divergence_of(const Run& run,
                                              const record::ArtifactReport& artifact) {
  if (run.evaluations.empty()) return nullptr;
  const record::Measurement* model = run.evaluations.front().artifact(artifact.name());
  return model != nullptr && model->compared() ? &model->divergence : nullptr;
}

std::string kl_text(const record::DivergenceResult& d) {
  return fmt::format("KL {}, same top-1 {:.1f} %", number_text(d.kl_mean), 100 * d.top1_agreement);
}

void add_quality_cards(const Run& run, const record::ArtifactReport& artifact,
                       std::vector<Card>& cards) {
  const record::DivergenceResult* d = divergence_of(run, artifact);
  if (d == nullptr) return;
  const record::Measurement& model = *run.evaluations.front().artifact(artifact.name());
  cards.push_back({"KL divergence, mean", number_text(d->kl_mean),
                   fmt::format("nats; 99 % of tokens below {}", number_text(d->kl_p99))});
  cards.push_back({"same most likely token", fmt::format("{:.1f} %", 100 * d->top1_agreement),
                   "as the original"});
  const record::Measurement* reference =
      run.evaluations.front().find(record::ModelKind::kReference);
  cards.push_back(
      {"perplexity", fmt::format("{:.2f}", model.perplexity_hf.value),
       reference == nullptr ? "" : fmt::format("original {:.2f}", reference->perplexity_hf.value)});
}

// Of several: which lost least, and which is smallest.
void add_extremes(const Run& run, std::vector<Card>& cards) {
  const auto smallest = std::ranges::min_element(
      run.artifacts, {}, [](const record::ArtifactReport& a) { return a.plan.tensor_bytes; });
  const record::ArtifactReport* closest = nullptr;
  for (const record::ArtifactReport& a : run.artifacts) {
    const record::DivergenceResult* d = divergence_of(run, a);
    if (d != nullptr && (closest == nullptr || d->kl_mean < divergence_of(run, *closest)->kl_mean))
      closest = &a;
  }
  const auto card = [&](const std::string& title, const record::ArtifactReport& a) {
    const record::DivergenceResult* d = divergence_of(run, a);
    cards.push_back({title, a.name(),
                     bytes_text(a.plan.tensor_bytes) + ", " + share_text(run, a) +
                         (d == nullptr ? "" : "; " + kl_text(*d))});
  };
  if (closest != nullptr) card("closest to the original", *closest);
  if (&*smallest != closest) card("smallest", *smallest);
}

std::vector<Card> cards_of(const Run& run) {
  std::vector<Card> cards;
  if (run.artifacts.size() == 1) {
    const record::ArtifactReport& only = run.artifacts.front();
    cards.push_back({"size", bytes_text(only.plan.tensor_bytes), share_text(run, only)});
    add_quality_cards(run, only, cards);
  } else if (!run.artifacts.empty()) {
    add_extremes(run, cards);
  }
  cards.push_back(
      {"time", duration_text(run.seconds),
       run.predicted.seconds > 0 ? "predicted " + duration_text(run.predicted.seconds) : ""});
  cards.push_back(
      {"peak memory", bytes_text(run.peak_bytes),
       run.predicted.peak_bytes > 0 ? "predicted " + bytes_text(run.predicted.peak_bytes) : ""});
  return cards;
}

std::string subtitle(const Run& run) {
  std::string text = run.source_name.empty() ? "" : escaped(run.source_name);
  if (run.source_bytes > 0)
    text += fmt::format("{}{}, {} bits/weight", text.empty() ? "original: " : ", ",
                        bytes_text(run.source_bytes), number_text(run.source_bits_per_weight));
  if (!run.artifacts.empty())
    text += fmt::format(" \xE2\x86\x92 {} quantized model{}", run.artifacts.size(),
                        run.artifacts.size() == 1 ? "" : "s");
  return text;
}

ParetoSeries by_format(const Run& run) {
  ParetoSeries series;
  for (const record::ArtifactReport& a : run.artifacts) {
    const auto found = std::ranges::find(series.names, a.format()) - series.names.begin();
    if (found == std::ssize(series.names)) series.names.push_back(a.format());
    series.of_point.push_back(static_cast<std::size_t>(found));
  }
  return series;
}

double noise_floor(const Run& run) {
  if (run.evaluations.empty()) return 0;
  const record::Measurement* floor = run.evaluations.front().find(record::ModelKind::kNoiseFloor);
  return floor != nullptr ? floor->divergence.kl_mean : 0;
}

void add_unfinished_banner(Page& page, const Run& run) {
  std::size_t modules = 0;
  for (const auto& pass : run.passes) modules += pass.size();
  page.html(
      fmt::format("<div class=\"banner\"><strong>This run has not finished.</strong> {} modules "
                  "are rounded so far. "
                  "<code>calque resume {}</code> goes on where it stopped.</div>\n",
                  modules, escaped(run.folder.string())));
}

}  // namespace

Page run_page(const Run& run) {
  Page page(run.name + " \xE2\x80\x93 calque");
  page.html(
      fmt::format("<h1>{}</h1>\n<div class=\"sub\">{}</div>\n", escaped(run.name), subtitle(run)));
  if (run.finished)
    page.cards(cards_of(run));
  else
    add_unfinished_banner(page, run);
  add_warnings(page, run);
  add_results(page, run);
  const std::vector<Point> points = points_of(run);
  add_pareto(page, points, by_format(run), run.source_bits_per_weight, noise_floor(run));
  add_texts_and_spread(page, points, run.evaluations.empty() ? nullptr : &run.evaluations.front());
  add_modules(page, run);
  add_costs(page, run);
  add_provenance(page, run);
  return page;
}

}  // namespace calque::report
