#include "camera_input.h"
