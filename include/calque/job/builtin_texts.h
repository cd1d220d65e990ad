#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "calque/job/job.h"
#include "calque/text/corpus.h"

namespace calque::job {

// The word for calque's own calibration texts: `calibration: {sources: [builtin]}`. With a kind
// behind it, `builtin:prose`, it means those of this kind.
inline constexpr const char* kBuiltin = "builtin";

// The kinds of texts, in the order of the table in builtin_texts.cpp.
std::vector<std::string> builtin_kinds();

// True for `builtin` and `builtin:` with any kind, also one that there is not.
bool is_builtin(std::string_view word);

// The folder of these texts: share/calque/calibration beside the program's folder, or
// calibration_data of the source tree that holds the program. Error(kInput, "E218") if neither is
// there.
std::filesystem::path builtin_folder();

// The texts that `word` means, one source each; together they are one part (TextSource::part).
// Error(kConfig, "E107") for an unknown kind, and kInput, "E218", if a file is not there. Held-out
// texts are not among them.
std::vector<text::TextSource> builtin_sources(std::string_view word = kBuiltin);

// The text that nothing is calibrated on, for evaluation.
std::filesystem::path builtin_heldout_text();

// calque's own tasks, in the folder tasks/ of the texts: `evaluate: {tasks: [builtin]}`.
std::vector<TaskSettings> builtin_tasks();

// A source's name in records: "builtin/prose.txt", or the file's name without its folder.
std::string name_of_source(const text::TextSource& source);

}  // namespace calque::job
