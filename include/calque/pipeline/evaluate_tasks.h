#pragma once

#include <vector>

#include "calque/pipeline/evaluate_texts.h"
#include "calque/record/task.h"

namespace calque::pipeline {

// Asks all models the questions of each task, one task after the other (the order of
// Report::tasks). Each task is a phase for the observer.
std::vector<record::TaskReport> evaluate_tasks(const EvaluationWork& work,
                                               record::Observer& observer);

}  // namespace calque::pipeline
