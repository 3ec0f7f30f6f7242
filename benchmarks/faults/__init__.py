"""Does anything a client was told get lost, doubled or torn when processes, disks, clocks and databases fail?"""
