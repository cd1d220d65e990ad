#pragma once

#include <string>

// Folders of this repository that tests read. Functions, so that no test is compiled anew where
// the repository has moved.
namespace calque::test {

std::string fixtures();          // tests/fixtures
std::string demo_model();        // tests/models/demo
std::string calibration_data();  // calibration_data
std::string configs();           // configs

}  // namespace calque::test
