#pragma once

#include <string>

namespace calque::resume {

// What the run of this process has saved and how to go on from there, as a sentence for whatever
// ends the process: "Blocks 0-37 are saved: calque resume runs/a1"; "": nothing. Safe from any
// thread.
std::string saved_run();
void set_saved_run(const std::string& sentence);

}  // namespace calque::resume
