#include "calque/model/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace calque::model {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void soften(std::span<float> values) {
  const float largest = *std::max_element(values.begin(), values.end());
  float sum = 0;
  for (float& value : values) sum += value = std::exp(value - largest);
  for (float& value : values) value /= sum;
}

// One pass for each, so that NaNs do no harm.
std::vector<std::size_t> largest_of(std::span<const float> values, Index count) {
  std::vector<std::size_t> result;
  std::vector<bool> taken(values.size(), false);
  for (Index n = 0; n < count; ++n) {
    std::size_t best = values.size();
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!taken[i] && (best == values.size() || values[i] > values[best])) best = i;
    taken[best] = true;
    result.push_back(best);
  }
  return result;
}

// Takes the experts of all groups but the best out of the choice.
void keep_groups(const Routing& routing, std::span<float> choice_E) {
  const std::size_t size = choice_E.size() / static_cast<std::size_t>(routing.groups);
  const auto group = [&](std::size_t g) { return choice_E.subspan(g * size, size); };
  std::vector<float> worth;
  for (std::size_t g = 0; g < static_cast<std::size_t>(routing.groups); ++g) {
    const std::vector<std::size_t> best = largest_of(group(g), 2);
    worth.push_back(group(g)[best[0]] + group(g)[best[1]]);
  }
  std::vector<bool> kept(worth.size(), false);
  for (const std::size_t g : largest_of(worth, routing.groups_used)) kept[g] = true;
  for (std::size_t g = 0; g < kept.size(); ++g)
    if (!kept[g]) std::fill(group(g).begin(), group(g).end(), kNever);
}

}  // namespace

std::vector<RoutedTo> Routing::choose(std::span<float> scores_E,
                                      std::span<const float> bias_E) const {
  if (scores == Scores::kSoftmax)
    soften(scores_E);
  else
    for (float& score : scores_E) score = 1.0f / (1.0f + std::exp(-score));

  std::vector<float> choice_E(scores_E.begin(), scores_E.end());
  for (std::size_t e = 0; e < bias_E.size(); ++e) choice_E[e] += bias_E[e];
  if (groups > 1) keep_groups(*this, choice_E);

  std::vector<RoutedTo> chosen;
  float sum = 0;
  for (const std::size_t e : largest_of(choice_E, used)) {
    chosen.push_back({static_cast<Index>(e), scores_E[e]});
    sum += scores_E[e];
  }
  sum = std::max(sum, static_cast<float>(sum_floor)) + static_cast<float>(sum_extra);
  for (RoutedTo& to : chosen) {
    if (normalize) to.weight /= sum;
    to.weight *= static_cast<float>(scale);
  }
  return chosen;
}

}  // namespace calque::model
