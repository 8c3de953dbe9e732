#include "entropy/frequencies.h"

#define SLOTS 256
#define CODES_MAX 65

const uint16_t znn_log2_of[SLOTS + 1] = {
    0,    0,    256,  406,  512,  594,  662,  719,  768,  812,  850,  886,  918,  947,  975,  1000, 1024, 1046, 1068,
    1087, 1106, 1124, 1142, 1158, 1174, 1189, 1203, 1217, 1231, 1244, 1256, 1268, 1280, 1291, 1302, 1313, 1324, 1334,
    1343, 1353, 1362, 1372, 1380, 1389, 1398, 1406, 1414, 1422, 1430, 1437, 1445, 1452, 1459, 1466, 1473, 1480, 1487,
    1493, 1500, 1506, 1512, 1518, 1524, 1530, 1536, 1542, 1547, 1553, 1558, 1564, 1569, 1574, 1580, 1585, 1590, 1595,
    1599, 1604, 1609, 1614, 1618, 1623, 1628, 1632, 1636, 1641, 1645, 1649, 1654, 1658, 1662, 1666, 1670, 1674, 1678,
    1682, 1686, 1690, 1693, 1697, 1701, 1705, 1708, 1712, 1715, 1719, 1722, 1726, 1729, 1733, 1736, 1739, 1743, 1746,
    1749, 1752, 1756, 1759, 1762, 1765, 1768, 1771, 1774, 1777, 1780, 1783, 1786, 1789, 1792, 1795, 1798, 1801, 1803,
    1806, 1809, 1812, 1814, 1817, 1820, 1822, 1825, 1828, 1830, 1833, 1836, 1838, 1841, 1843, 1846, 1848, 1851, 1853,
    1855, 1858, 1860, 1863, 1865, 1867, 1870, 1872, 1874, 1877, 1879, 1881, 1884, 1886, 1888, 1890, 1892, 1895, 1897,
    1899, 1901, 1903, 1905, 1908, 1910, 1912, 1914, 1916, 1918, 1920, 1922, 1924, 1926, 1928, 1930, 1932, 1934, 1936,
    1938, 1940, 1942, 1944, 1946, 1947, 1949, 1951, 1953, 1955, 1957, 1959, 1961, 1962, 1964, 1966, 1968, 1970, 1971,
    1973, 1975, 1977, 1978, 1980, 1982, 1984, 1985, 1987, 1989, 1990, 1992, 1994, 1995, 1997, 1999, 2000, 2002, 2004,
    2005, 2007, 2008, 2010, 2012, 2013, 2015, 2016, 2018, 2020, 2021, 2023, 2024, 2026, 2027, 2029, 2030, 2032, 2033,
    2035, 2036, 2038, 2039, 2041, 2042, 2044, 2045, 2047, 2048,
};

/* What one more slot for a symbol gains, or one less costs; what is not possible, the worst of all. */
static uint64_t value_of_step(uint32_t freq, uint32_t count, bool up)
{
    if (up ? freq >= SLOTS - 1 : freq <= 1 || freq > SLOTS)
        return up ? 0 : UINT64_MAX;
    const unsigned higher = up ? freq + 1 : freq;
    return ((uint64_t)count + 1) * (unsigned)(znn_log2_of[higher] - znn_log2_of[higher - 1]);
}

void znn_frequencies_of(uint32_t *freq, const uint32_t *counts, unsigned n)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += counts[i];
    const uint64_t scale = total ? ((uint64_t)SLOTS << 32) / total : 0;
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t f = (uint32_t)((counts[i] * scale + (UINT64_C(1) << 31)) >> 32);
        freq[i] = ZNN_MIN(ZNN_MAX(f, 1), SLOTS - 1);
        sum += freq[i];
    }
    /* Rounding leaves a few steps: give or take each where it helps most or costs least. */
    const bool up = sum < SLOTS;
    uint64_t value[CODES_MAX];
    for (unsigned i = 0; i < n; i++)
        value[i] = value_of_step(freq[i], counts[i], up);
    while (sum != SLOTS) {
        unsigned best = 0;
        for (unsigned i = 1; i < n; i++)
            best = (up ? value[i] > value[best] : value[i] < value[best]) ? i : best;
        freq[best] += up ? 1 : -1u;
        sum += up ? 1 : -1u;
        value[best] = value_of_step(freq[best], counts[best], up);
    }
}
