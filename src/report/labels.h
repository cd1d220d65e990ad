#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/svg.h"

namespace calque::report {

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};
double overlap(const Box& a, const Box& b);  // area

// Labels of points, to be placed without covering each other or a point.
struct LabelTask {
  Box bounds;                       // labels stay inside
  std::vector<Xy> points;           // the labelled ones
  std::vector<std::string> labels;  // one per point; "": no label
  std::vector<Xy> obstacles;        // places along lines that labels had better not cover
  double font_size = 11;
};

struct PlacedLabel {
  Box box;
  Xy text_at;           // start of the base line
  bool leader = false;  // far enough away to need a line to its point
  Xy leader_end;
};

// Places one label per point; nullopt if it has no room or no text. The order of the points matters
// only if several places are equally good.
std::vector<std::optional<PlacedLabel>> place_labels(const LabelTask& task);

}  // namespace calque::report
