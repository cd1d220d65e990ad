#pragma once

#include <string>

// Folders of this repository that tests read. They are functions, so that moving the repository
// does not recompile tests.
namespace calque::test {

std::string fixtures();          // tests/fixtures
std::string demo_model();        // tests/models/demo
std::string calibration_data();  // calibration_data
std::string configs();           // configs

}  // namespace calque::test
