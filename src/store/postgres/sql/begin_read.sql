SELECT clock_ms()
