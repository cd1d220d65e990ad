#pragma once

#include <cmath>

namespace calque {

// ScaleRule::kSearch tries these candidates, on every device alike.

// Largest number of times a candidate's codes and scale are refitted to each other.
constexpr int kPolishRounds = 4;

// Ranges through zero, relative to the range of the weights: from a little wider to the narrowest,
// by equal ratios. The coarser the grid, the more it pays to clip outliers for finer steps: against
// ten times as many candidates, 2 to 4 bit lose at most 1 to 2 % of the error.
constexpr int kSymmetricSteps = 30;
constexpr int kZeroPointSteps = 20;
constexpr int kZeroPointPlaces = 5;  // places of a narrower range inside the weights' own

struct Ranges {
  float widest, ratio;
};

inline Ranges ranges_to_try(int bits, int steps) {
  constexpr float kNarrowest[] = {0, 0.25f, 0.26f, 0.28f, 0.31f, 0.36f, 0.4f, 0.45f, 0.5f};
  constexpr float kWidest = 1.25f;
  return {kWidest, std::pow(kNarrowest[bits] / kWidest, 1.0f / static_cast<float>(steps - 1))};
}

// Each end of a grid with a minimum is cut by these parts of the range; every pair is tried.
constexpr int kTrims = 7;
constexpr float kTrim[kTrims] = {-0.03f, 0.0f, 0.04f, 0.08f, 0.13f, 0.19f, 0.26f};

}  // namespace calque
